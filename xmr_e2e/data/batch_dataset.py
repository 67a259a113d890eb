"""The batches of a split, as a dataset of torch: what the loader's workers are asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xmr_e2e.data.batch import Batch, multi_hot
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.config import Data
from xmr_e2e.data.encoded import EncodedImages, decode_images, decodes_later, pack_images
from xmr_e2e.data.images import is_plain_jpeg, load_square
from xmr_e2e.data.inputs import CachedFeatures, InputKind, Regions, Tokens, Waveforms
from xmr_e2e.data.label_noise import LabelNoise
from xmr_e2e.data.mixture import open_split
from xmr_e2e.data.preparation import Preparation
from xmr_e2e.data.randomness import uniform
from xmr_e2e.data.reader import SplitReader, StoredRegions
from xmr_e2e.data.shapes import decode_points
from xmr_e2e.data.sounds import sound_window, sound_windows
from xmr_e2e.data.text import pad
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.data.videos import decode_frames
from xmr_e2e.data.workers import room_for
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.features import UNKNOWN_CLASS
from xmr_e2e.shards.manifest import Manifest
from xmr_e2e.shards.media import MAX_PIXELS

# Streams of random numbers that choose captions, windows, points and frames; the ones below 100 are the augmentation's.
TEXT_STREAM, SOUND_STREAM, POINT_STREAM, VIDEO_STREAM = 100, 101, 102, 200


def label_noise(data: Data, manifest: Manifest, seed: int) -> LabelNoise | None:
    """The noise that a training's options ask for; None where they ask for none."""
    if not data.label_noise:
        return None
    return LabelNoise(data.label_noise, data.label_noise_kind, len(manifest.classes), seed)


class Request(NamedTuple):
    """The samples of this rank's part of a batch."""

    epoch: int
    positions: NDArray[np.int64]
    is_padding: bool = False
    """the part is empty, and `positions` is that of a padding sample (see `Batch`)"""


class BatchDataset(Dataset[Batch | XmrError]):
    """The samples of a split that have certain modalities, batch by batch: what the loader's workers are asked for."""

    def __init__(
        self,
        data: Data,
        split: str,
        sources: Mapping[str, InputKind],
        tokenizer: Tokenizer | None,
        *,
        seed: int,
        cached_features: Mapping[str, CachedFeatures] | None = None,
        captions: Captions | None = None,
        is_training: bool = False,
    ) -> None:
        """
        Args:
            sources: modality -> what to read of it. Samples that lack one of these modalities are left out.
            tokeniser: needed where a source is "tokens".
            seed: of the choice of captions.
            extracted: modality -> what a frozen tower made of all samples of the split, in order of position;
                these modalities are not read.
            captions: each of these is an item: a sample's rows repeat, as many as it has, and the only source is a
                text's tokens.
            is_training: what is read of sounds, videos and shapes varies from epoch to epoch.
        """
        self.data = data
        self.reader = open_split(data.shards, split, data.extra_shards if split == "train" else ())
        self.label_noise = label_noise(data, self.reader.manifest, seed) if split == "train" else None
        self.sources = dict(sources)
        self.tokenizer = tokenizer
        self.seed = seed
        self.is_training = is_training
        # What a model is measured by is decoded in one way, whatever the device.
        self.decodes_later = is_training and decodes_later(data.decode)
        self.cached_features = {name: item for name, item in (cached_features or {}).items() if name in sources}
        self._to_read = {name: source for name, source in self.sources.items() if name not in self.cached_features}
        # None where all samples take part: the list of a billion numbers would fill the memory of every worker.
        self._chosen = None if self.reader.has_all(list(sources)) else self.reader.positions_with(list(sources))
        self._captions: dict[int, tuple[str, ...]] | None = None
        if captions:
            self._captions = captions.of(self.reader, self.at(np.arange(len(self))).tolist())
            self._chosen = np.array(list(self._captions), np.int64)
        if not len(self):
            raise XmrError(f"{data.shards}: no sample of the split {split!r} has {' and '.join(sources)}")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "cached_features": {}}  # gigabytes, which workers need not have: see `complete`

    def __len__(self) -> int:
        return len(self.reader) if self._chosen is None else len(self._chosen)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Of all the items' samples, ascending."""
        return self._items(self.at(np.arange(len(self))))

    def _items(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples' positions, each as often as it has items."""
        if self._captions is None:
            return positions
        return np.repeat(positions, [len(self._captions[position]) for position in positions.tolist()])

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions in the split of the samples of these numbers, 0 <= number < len(self)."""
        return numbers if self._chosen is None else self._chosen[numbers]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of the samples in each of the folders."""
        if isinstance(self.reader, SplitReader):
            return (len(self),)
        ends = np.cumsum(self.reader.sizes)
        if self._chosen is not None:
            ends = np.searchsorted(self._chosen, ends)
        return tuple(np.diff(ends, prepend=0).tolist())

    @cached_property
    def classes(self) -> tuple[NDArray[np.int64], ...]:
        """Class by class, which of the samples it has; of several labels, a sample counts to the rarest."""
        labels = [self._labels(position) for position in self.positions.tolist()]
        counts = Counter(label for row in labels for label in row)
        rarest = np.array([min(row, key=lambda label: (counts[label], label), default=-1) for row in labels])
        return tuple(np.flatnonzero(rarest == label) for label in np.unique(rarest[rarest >= 0]).tolist())

    @property
    def reads(self) -> bool:
        """True if anything but labels has to be read."""
        return bool(self._to_read)

    def __getitem__(self, request: Request) -> Batch | XmrError:
        """The batch, but for what was extracted; or the error in its data: raised in a worker, it would reach the user
        as torch's traceback."""
        try:
            return self._load(request)
        except XmrError as error:
            return error

    def complete(self, batch: Batch, device: torch.device = torch.device("cpu")) -> Batch:
        """The batch, with what frozen towers made of its samples, and with its pictures decoded on the device.

        Raises:
            XmrError: a picture that cannot be decoded; names shard and key.
        """
        # A padding sample may be any sample.
        positions = batch.positions.numpy() if len(batch) else np.zeros(1, np.int64)
        chances = uniform(self.seed, batch.epoch, positions, TEXT_STREAM)
        cached_features = {name: item.rows(positions, chances) for name, item in self.cached_features.items()}
        inputs = {name: self._decoded(item, positions, device) for name, item in batch.inputs.items()}
        return batch.with_inputs({name: {**cached_features, **inputs}[name] for name in self.sources})

    def _decoded(self, item: Any, positions: NDArray[np.int64], device: torch.device) -> Any:
        if not isinstance(item, EncodedImages):
            return item
        return decode_images(item, device, self.data.interpolation, lambda number: self._square(int(positions[number])))

    def _load(self, request: Request) -> Batch:
        positions = request.positions.tolist()
        inputs: dict[str, Any] = {}
        for modality, source in self._to_read.items():
            match source:
                case "pixels":
                    inputs[modality] = self._pictures(request)
                case "waveform":
                    inputs[modality] = self._waveforms(modality, request)
                case "frames":
                    inputs[modality] = self._frames(modality, request)
                case "points":
                    inputs[modality] = self._points(modality, request)
                case "tokens":
                    inputs[modality] = self._tokens(request)
                case "vector":
                    rows = [self.reader.features(position, modality) for position in positions]
                    inputs[modality] = torch.from_numpy(np.stack(rows))
                case "regions":
                    inputs[modality] = _stack_regions([self.reader.regions(position) for position in positions])
        counted = self._items(request.positions[: 0 if request.is_padding else None])
        return Batch(
            inputs=inputs,
            labels=self.labels(counted),
            positions=torch.from_numpy(counted),
            keys=tuple(self.reader.key(position) for position in counted.tolist()),
            epoch=request.epoch,
            preparation=Preparation(
                self.data.image_size,
                self.data.video.size,
                self.data.augment,
                self.data.audio.augment,
                self.data.shape3d.augment,
                self.seed,
            ),
        )

    def labels(self, positions: NDArray[np.int64]) -> Tensor:
        """Labels of the samples at these positions of the split, (n, c) multi-hot."""
        return multi_hot([self._labels(p) for p in positions.tolist()], len(self.reader.manifest.classes))

    def _labels(self, position: int) -> tuple[int, ...]:
        """The labels to learn from, or to measure by."""
        labels = self.reader.labels(position)
        return self.label_noise.of(position, labels) if self.label_noise else labels

    def _pictures(self, request: Request) -> Tensor | EncodedImages:
        """uint8 (n, 3, load_size, load_size), or the files of those that are decoded later."""
        positions = request.positions.tolist()
        if not self.decodes_later or request.is_padding:  # a padding sample's position would be lost
            return self._squares(positions)
        images = [self.reader.image(position) for position in positions]
        files = [image if is_plain_jpeg(image, self._max_pixels) else b"" for image in images]
        others = [position for position, file in zip(positions, files) if not file]
        return pack_images(files, [self._square(position) for position in others], self.data.load_size)

    @property
    def _max_pixels(self) -> int:
        return self.reader.manifest.max_pixels or MAX_PIXELS

    def _squares(self, positions: Sequence[int]) -> Tensor:
        """The pictures, uint8 (n, 3, load_size, load_size), each decoded to its place in the batch."""
        pictures = room_for(len(positions), 3, self.data.load_size, self.data.load_size)
        for position, place in zip(positions, pictures):
            self._square(position, place)
        return pictures

    def _square(self, position: int, out: Tensor | None = None) -> Tensor:
        """The picture, uint8 (3, load_size, load_size)."""
        image, where, most = self.reader.image(position), self.reader.where(position), self._max_pixels
        how = self.data.interpolation
        return load_square(image, self.data.load_size, where=where, max_pixels=most, interpolation=how, out=out)

    def _waveforms(self, modality: str, request: Request) -> Waveforms:
        """A random window of each sound in training, evenly spaced ones in evaluation."""
        options, bounds = self.data.audio, self.data.media
        found = []
        for position, chance in zip(request.positions.tolist(), self._chances(request, SOUND_STREAM)):
            data, _ = self.reader.media(position, modality)
            given: dict[str, Any] = {"samples": options.samples, "rate": options.rate, "bounds": bounds}
            given |= {"chance": chance} if self.is_training else {"count": options.windows}
            cut = sound_window if self.is_training else sound_windows
            found.append(cut(data, self.reader.where(position), **given))
        return Waveforms(*(torch.from_numpy(np.stack(column)) for column in zip(*found)))

    def _frames(self, modality: str, request: Request) -> Tensor:
        """uint8 (n, f, 3, side, side), of `Data.frame_load_size`."""
        data, count = self.data, self.data.video.frames
        clips = [
            decode_frames(
                self.reader.media(position, modality)[0],
                self.reader.where(position),
                frames=count,
                size=data.frame_load_size,
                chances=own,
                bounds=data.media,
                interpolation=data.interpolation,
            )
            for position, own in zip(request.positions.tolist(), self._moments(request))
        ]
        return torch.from_numpy(np.stack(clips))

    def _moments(self, request: Request) -> Sequence[NDArray[np.float64] | None]:
        """Of each video, where its frames (f,) are in their segments, in [0, 1); None in evaluation."""
        if not self.is_training:
            return [None] * len(request.positions)
        frames = range(self.data.video.frames)
        return [*np.stack([self._chances(request, VIDEO_STREAM + number) for number in frames], axis=1)]

    def _points(self, modality: str, request: Request) -> Tensor:
        """float32 (n, p, 3): other points in each epoch of a training."""
        chances = self._chances(request, POINT_STREAM) if self.is_training else np.zeros(len(request.positions))
        clouds = []
        for position, chance in zip(request.positions.tolist(), chances):
            data, extension = self.reader.media(position, modality)
            clouds.append(
                decode_points(
                    data,
                    self.reader.where(position),
                    points=self.data.shape3d.points,
                    extension=extension,
                    seed=int(chance * 2**53),
                    bounds=self.data.media,
                )
            )
        return torch.from_numpy(np.stack(clouds))

    def _chances(self, request: Request, stream: int) -> NDArray[np.float64]:
        """(n,) in [0, 1), by seed, epoch and position."""
        return uniform(self.seed, request.epoch, request.positions, stream)

    def _tokens(self, request: Request) -> Tokens:
        assert self.tokenizer is not None, "texts are read with a tokeniser"
        rows = self._rows_of_text(request)
        return pad([self.tokenizer.encode(" ".join(text), max_tokens=self.data.max_tokens) for text in rows])

    def _rows_of_text(self, request: Request) -> Sequence[tuple[str, ...]]:
        """The texts that are joined to the text of each row."""
        if self._captions is not None:
            return [(text,) for position in request.positions.tolist() for text in self._captions[position]]
        texts = [self.reader.metadata(position).texts for position in request.positions.tolist()]
        return [(text,) for text in self._choose(texts, request)] if self.data.texts == "one_caption" else texts

    def _choose(self, texts: Sequence[tuple[str, ...]], request: Request) -> list[str]:
        if self.reader.split != "train":
            return [options[0] for options in texts]
        chances = self._chances(request, TEXT_STREAM)
        return [options[int(chance * len(options))] for options, chance in zip(texts, chances)]


def sample_bytes(data: Data, sources: Mapping[str, InputKind], manifest: Manifest) -> int:
    """Of a sample as a loader's process hands it over, at most."""
    each = {
        "pixels": max(3 * data.load_size**2, _file_bytes(manifest) if data.decode != "cpu" else 0),
        "tokens": 8 * (data.max_tokens + 1),
        "waveform": 4 * data.audio.samples * data.audio.windows,
        "frames": 3 * data.frame_load_size**2 * data.video.frames,
        "points": 12 * data.shape3d.points,
        "regions": (4 * math.prod(manifest.shapes.get("regions", ())) + 28 * manifest.shapes.get("regions", (0,))[0]),
    }
    read = sum(each.get(source, 4 * manifest.widths.get(name, 0)) for name, source in sources.items())
    return read + 4 * len(manifest.classes) + 8


def _file_bytes(manifest: Manifest) -> int:
    """Of a sample's files, the mean of the shard where it is largest."""
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    return max(-(-shard.bytes // max(1, shard.samples)) for shard in shards)


def _stack_regions(regions: Sequence[StoredRegions]) -> Regions:
    columns = (np.stack(column) for column in zip(*regions))
    features, boxes, classes = (torch.from_numpy(column) for column in columns)
    return Regions(features.float(), boxes, None if (classes == UNKNOWN_CLASS).any() else classes)
