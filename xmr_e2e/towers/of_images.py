"""Image networks within towers of other media, which give them several images of one sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.batch_norm import FreezableBatchNorm
from xmr_e2e.towers.image import ImageEncoder, ImageTower


class ImageOptions(Protocol):
    """The options of a tower of another medium that its image network has."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str: ...

    @property
    def dropout(self) -> float: ...

    @property
    def freeze_batch_norm(self) -> bool: ...


def build_image_network(
    tower: ImageOptions, dataset: DatasetInfo, modality: str, side: int, option: str = ""
) -> ImageEncoder:
    """The image network of a tower, whose errors name the options of the modality.

    Args:
        side: of its images, in pixels.
        option: by which the side is set; the tower's own, --method.MODALITY.side, where none is named.

    Raises:
        XmrError: as `ImageTower.build`.
    """
    own = ImageTower(tower.name, tower.weights, dropout=tower.dropout, freeze_batch_norm=tower.freeze_batch_norm)
    try:
        return own.build(replace(dataset, image_size=side), modality)
    except XmrError as error:
        message = str(error).replace("--method.image.", f"--method.{modality}.")
        raise XmrError(message.replace("--data.image-size", option or f"--method.{modality}.side")) from error


class ManyImagesEncoder(FreezableBatchNorm):
    """An image network on k images of each sample; its parts keep their names in `network`."""

    dim: int

    def __init__(self, images: ImageEncoder) -> None:
        super().__init__()
        self.dim = images.dim
        self.network = images.network
        self.renormalize = images.renormalize
        self.freezes_batch_norm = images.freezes_batch_norm

    def encode(self, images: Tensor) -> Tensor:
        """Images (n, k, 3, h, w), normalised by ImageNet's statistics -> (n, k, dim)."""
        # Half where DeepSpeed casts the model: it casts inputs, too, but not images that are made of them.
        dtype = next(self.network.parameters()).dtype
        rows = ImageEncoder.forward(self, images.flatten(0, 1).to(dtype))  # type: ignore[arg-type]  # the same parts
        return rows.unflatten(0, images.shape[:2])
