"""The base class of methods: towers, heads and losses in one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from xmr_e2e.configuration import BEFORE
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import CachedFeatures, InputKind
from xmr_e2e.distributed import gather, numbers_of_ranks
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import Protocol
from xmr_e2e.methods.finite import exact_products, full_precision, look_at, zero_unless
from xmr_e2e.methods.stages import Stage, StepContext, has_prefix
from xmr_e2e.methods.start import FrozenStart, StartLayer, StartLayers
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.similarity import Similarity
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.trained import build_tower, stay_in_evaluation


def _start_before(options: Mapping[str, Any]) -> FrozenStart:
    """The value that `frozen_start` would have had in runs without it; of no consequence where towers trained."""
    return "random" if options.get("frozen") else "labels"


@dataclass(frozen=True, kw_only=True)
class MethodConfig(ABC):
    """The options of one method; its `build` makes the method. The towers are the fields with a modality's name.

    What a class does not declare of itself (`title`, `citation`, `protocols`, `has_released_code`) it does not have
    from the class that it is made from: a variant of a paper's method is not the paper's.
    """

    title: ClassVar[str]
    """its name in tables, reports and model cards; the class's where it declares none"""
    citation: ClassVar[str]
    """authors, title, venue and year of its paper; "" where it has none"""
    protocols: ClassVar[tuple[Protocol, ...]]
    """selection and measurement of its authors' released scripts, each named "released:…"; most methods have none"""
    has_released_code: ClassVar[bool]
    """False where its authors published none, so that there is no script to follow"""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = vars(cls)
        cls.title = own.get("title", cls.__name__)
        cls.citation = own.get("citation", "")
        cls.protocols = own.get("protocols", ())
        cls.has_released_code = own.get("has_released_code", True)

    most_modalities: ClassVar[int | None] = None
    """number of modalities that it can bring together, at most"""

    image: TowerConfig | None
    text: TowerConfig | None
    weights: str = "none"
    """none, or a run or exported model of the same method and towers, with whose weights all of it begins, heads as
    well: to go on with other options, such as towers that stood still and now learn"""
    frozen: bool = False
    """keep the towers as they begin: what they make of the samples is extracted once, and only the heads train"""
    frozen_start: FrozenStart = field(default="labels", metadata={BEFORE: _start_before})
    """with frozen, of a tower without published weights: it first learns the labels in a stage of its own (of data
    without labels: the words of its text), or the words in any case, or stays the random network that it is"""

    @property
    def towers(self) -> dict[str, TowerConfig]:
        """By modality, in the order of MODALITIES."""
        towers = {modality: getattr(self, modality, None) for modality in MODALITIES}
        return {modality: tower for modality, tower in towers.items() if tower is not None}

    @property
    def input_kinds(self) -> dict[str, InputKind]:
        """Modality -> kind of input that its tower reads."""
        return {modality: tower.input_kind for modality, tower in self.towers.items()}

    @property
    def needs_labels(self) -> bool:
        """True where a stage of the method's own learns from the training samples' labels."""
        return True

    @property
    def published(self) -> frozenset[str]:
        """Modalities whose towers begin with weights that have learnt something."""
        begun = self.weights != "none"
        return frozenset(name for name, tower in self.towers.items() if begun or tower.has_published_weights)

    @property
    def starts_from_labels(self) -> bool:
        """True where towers first learn the labels, if the data has any, because they are to stand still."""
        still = {name for name, tower in self.towers.items() if self.frozen or tower.trained == "nothing"}
        return self.frozen_start == "labels" and bool(still - self.published)

    @abstractmethod
    def build(self, dataset: DatasetInfo) -> Method:
        """The method with freshly initialised (or pretrained, where its towers say so) networks."""


@dataclass(frozen=True, kw_only=True)
class ManyModalities(MethodConfig):
    """Options of a method for any number of modalities."""

    audio: TowerConfig | None = None
    video: TowerConfig | None = None
    shape3d: TowerConfig | None = None


@dataclass(frozen=True, kw_only=True)
class TwoModalities(ManyModalities):
    """Options of a method for pairs: any two of the modalities."""

    most_modalities = 2


def build_method(config: MethodConfig, dataset: DatasetInfo) -> Method:
    """The method of a configuration.

    Raises:
        XmrError: as its `build`; and where its parameters do not fit into memory.
    """
    try:
        return config.build(dataset)
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise XmrError(f"the networks do not fit into memory: lower the widths under --method ({error})") from error


def check_weights(config: MethodConfig, *terms: str) -> None:
    """Raise XmrError where the weights of all terms of the loss, options of these names, are 0."""
    if not any(getattr(config, name) for name in terms):
        options = ", ".join(f"--method.{name.replace('_', '-')}" for name in terms)
        raise XmrError(f"{options}: all are 0, so that there is nothing to learn; give one of them a weight")


def _check_modalities(config: MethodConfig) -> None:
    names, most = list(config.towers), config.most_modalities
    if len(names) < 2:
        raise XmrError("a method for cross-modal retrieval needs towers for two modalities or more")
    if most and len(names) > most:
        raise XmrError(
            f"{config.title} takes two modalities, not {len(names)}: leave out one of {', '.join(names)} "
            f"(--method.{names[0]}.kind none)"
        )


class Method(nn.Module, ABC):
    """One module that holds the towers, the heads and the losses, as DistributedDataParallel and DeepSpeed want it.

    A step has two halves: `represent` runs the towers on this rank's samples, `objective` looks at the representations
    of the whole global batch. The halves are apart so that representations can be gathered across ranks, and cached.
    """

    similarity: Similarity = "cosine"
    """the similarity of its embeddings"""
    freezable: ClassVar[tuple[str, ...]] = MODALITIES
    """modalities whose towers `frozen` keeps as they begin"""

    def __init__(self, config: MethodConfig, dataset: DatasetInfo) -> None:
        super().__init__()
        self.multi_label = dataset.multi_label
        self.classes = dataset.classes
        self.input_kinds = config.input_kinds
        _check_modalities(config)
        self.towers = nn.ModuleDict({name: build_tower(tower, dataset, name) for name, tower in config.towers.items()})
        self.tower_configs = config.towers
        kept = self.freezable if config.frozen else ()
        still = [name for name, tower in config.towers.items() if tower.trained == "nothing"]
        self.frozen = tuple(name for name in self.towers if name in kept or name in still)
        self.starts = StartLayers()
        learnable = [f"towers.{name}" for name, parameter in self.towers.named_parameters() if parameter.requires_grad]
        for name in self.frozen:
            own = [each for each in learnable if has_prefix(each, f"towers.{name}")]
            if set(own) - {f"towers.{name}.words.weight"}:  # word vectors alone have learnt something already
                self.starts.add(name, config.towers[name], self.widths()[name], config.frozen_start, dataset)
        learnable += [f"starts.{name}" for name, _ in self.starts.named_parameters()]
        self._learnt_at_start = frozenset(learnable)
        for name in self.frozen:
            self.towers[name].requires_grad_(False)
        self.starts.requires_grad_(False)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.towers)

    @property
    def device(self) -> torch.device:
        """Device of its weights; of buffers where it has no parameters, as closed forms on published features."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The method's own stages, in order."""
        return (Stage("training", self.modalities, without=self.unreached),)

    @property
    def unreached(self) -> tuple[str, ...]:
        """Prefixes of the names of the parameters that no term of the loss reaches, such as a head whose terms have the
        weight 0: they stand still, as DistributedDataParallel waits for the gradients of all that do not."""
        return ()

    @property
    def training_stages(self) -> tuple[Stage, ...]:
        """All stages of the training, in order: first those of towers that learn something before they stand still."""
        return (*self.starts.stages, *self.stages)

    def _start_of(self, stage: str) -> StartLayer | None:
        """The layer that learns in the stage of this name; None in the method's own."""
        return self.starts.of_stage(stage)

    def set_trained(self, stage: Stage, trainable: Container[str]) -> None:
        """Let the parameters learn that the stage trains, and no others.

        Args:
            trainable: names of the parameters that learn in the method's own stages.
        """
        learning = self._learnt_at_start if stage.is_start else trainable
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in learning and stage.is_trained(name))

    def standing_still(self, stage: Stage) -> tuple[str, ...]:
        """Modalities whose towers stand still in this stage and in all that follow."""
        stages = self.training_stages
        waiting = {name for each in stages[stages.index(stage) :] if each.is_start for name in each.modalities}
        return tuple(name for name in self.frozen if name not in waiting)

    def widths(self) -> dict[str, int]:
        """Modality -> width of its tower's output."""
        return {name: int(tower.dim) for name, tower in self.towers.items()}  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; but towers that stand still, in this stage or in all, stay in evaluation mode, and so
        do parts of towers: dropout would be noise in what they give, and batch statistics would move what else does
        not."""
        super().train(mode)
        for tower in self.towers.values():
            if not any(parameter.requires_grad for parameter in tower.parameters()):
                tower.eval()
            stay_in_evaluation(tower)
        return self

    def features(self, modality: str, inputs: Any) -> Any:
        """The output of the modality's tower for these inputs: (n, dim), or a `Sequence`."""
        return inputs.output if isinstance(inputs, CachedFeatures) else self.towers[modality](inputs)

    @abstractmethod
    def embed(self, modality: str, inputs: Any) -> Tensor:
        """Embeddings (n, d) in the common space."""

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """All that the objective needs of each sample, as tensors whose rows are samples.

        Here the embeddings by modality. `inputs` holds the modalities of the stage.
        """
        return {modality: self.embed(modality, item) for modality, item in inputs.items()}

    def represent_stage(self, inputs: Mapping[str, Any], stage: str = "") -> dict[str, Tensor]:
        """All that the objective of the stage of this name needs: `represent`, or what stands for it in a start's."""
        layer = self._start_of(stage)
        if layer is None:
            return self.represent(inputs)
        ((modality, item),) = inputs.items()
        return layer.represent(self.features(modality, item), item)

    def represent_batch(self, batch: Batch, stage: str = "") -> dict[str, Tensor]:
        """`represent_stage` for the samples of this rank's part of a batch; no rows where there is but a padding
        sample."""
        return {name: rows[: len(batch)] for name, rows in self.represent_stage(batch.inputs, stage).items()}

    @abstractmethod
    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """The named loss terms and their weighted "total", scalars.

        Args:
            representations: as `represent` gives them, of the whole global batch.
            labels: (n, c) multi-hot.
        """

    def begin_stage(self, stage: Stage) -> None:
        """Called by every rank before a stage, on what the stages before it kept."""

    def end_epoch(self, stage: Stage) -> None:
        """Called by every rank after an epoch's training and its validation."""

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        """Fit a closed-form stage to the training split's embeddings as they are before it, (n, d) by modality.

        Every rank has all of them, and comes to the same.
        """
        raise NotImplementedError

    def global_objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """`objective` on what all ranks hold, in fp32 whatever the towers ran in (fp64 where they ran in that).

        What it draws by chance is the same on every rank, and for any number of ranks.

        Raises:
            NotFinite: in representations or loss terms; on every rank. Not where the context has checks, which are
                asked instead.
        """
        with torch.autocast(labels.device.type, enabled=False), exact_products():
            counts = numbers_of_ranks(len(labels))
            everywhere = {name: gather(full_precision(rows), counts) for name, rows in representations.items()}
            found = look_at({f"the {name} representations": rows for name, rows in everywhere.items()}, context.checks)
            # Decompositions fail on such values in ways of their own.
            everywhere = {name: zero_unless(found, rows) for name, rows in everywhere.items()}
            labels = gather(labels, counts)
            torch.manual_seed(context.seed)
            layer = self._start_of(context.stage)
            terms = layer.losses(everywhere, labels) if layer else self.objective(everywhere, labels, context)
            look_at({f"the loss term {name!r}": term for name, term in terms.items()}, context.checks)
            return terms

    def forward(
        self,
        batch: Batch,
        context: StepContext = StepContext(),
        gradients: Mapping[str, Tensor] | None = None,
        *,
        all_parameters: bool = False,
    ) -> dict[str, Tensor]:
        """The loss terms of the global batch of which `batch` is this rank's part.

        With `gradients`, the loss's gradients with respect to the representations of these samples (see
        `xmr_e2e.training.gradcache`), "total" is a surrogate whose backward pass sends them through the towers; with
        `all_parameters`, through all others as well, as zeros.
        """
        representations = self.represent_batch(batch, context.stage)
        if gradients is None:
            return self.global_objective(representations, batch.labels, context)
        total = torch.stack([(representations[name] * gradient).sum() for name, gradient in gradients.items()]).sum()
        if all_parameters:
            total = total + 0.0 * torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum()
        return {"total": total}
