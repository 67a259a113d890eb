"""A recipe's method as the training builds it, but at random weights, and how its stages go through the samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.text import fit_vocabulary
from xmr_e2e.data.tokenizers import Tokenizer, fit_tokenizer, load_pretrained_tokens
from xmr_e2e.doctor.finding import Finding, counted, note, problem
from xmr_e2e.methods.base import Method, build_method
from xmr_e2e.methods.stages import Stage
from xmr_e2e.models.rebuild import without_weights
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards.manifest import Manifest
from xmr_e2e.towers.base import DatasetInfo

TEXTS = 20_000
"""samples whose texts are read for a vocabulary; of subwords, which take longer to fit, a tenth"""


@dataclass(frozen=True)
class Words:
    """The tokeniser of the texts, and as many vectors of that width as the training has."""

    tokenizer: Tokenizer | None
    """None where no text is read"""
    vectors: Tensor
    """(len(tokeniser), dim), random: to fit them takes longer than a look may"""
    partial: bool = False
    """fitted to a part of the training split's texts, so that there will be more"""


@dataclass(frozen=True)
class StagePlan:
    """The plan of a stage's way through its samples."""

    stage: Stage
    samples: int
    steps: int
    """of an epoch"""
    smallest: int
    """samples of its smallest global batch"""
    largest: int


def quick_words(experiment: Experiment) -> Words:
    """Raises XmrError where the training texts cannot be read, or a pretrained tokeniser cannot be had."""
    data = experiment.data
    if "tokens" not in experiment.method.input_kinds.values():
        return Words(None, torch.zeros(0, 0))
    if data.tokens.kind == "transformers":
        pretrained = load_pretrained_tokens(data.tokens.name)
        return Words(pretrained, torch.zeros(len(pretrained), 0))
    texts, partial = _some_texts(data)
    tokenizer: Tokenizer
    if data.tokens.kind == "words":
        tokenizer = fit_vocabulary(texts, min_count=data.words.min_count)
    else:
        tokenizer, _ = fit_tokenizer(texts, data.tokens, replace(data.words, dim=1, epochs=1))
    return Words(tokenizer, torch.randn(len(tokenizer), data.words.dim) / 10, partial)


def _some_texts(data: Data) -> tuple[list[str], bool]:
    """Texts of the training splits, spread over them, and whether there are more."""
    most = TEXTS // 10 if data.tokens.kind == "sentencepiece" else TEXTS
    texts: list[str] = []
    partial = False
    for folder in (data.shards, *map(Path, data.extra_shards)):
        reader = SplitReader(folder, "train")
        # Of a mounted dataset only the first tar: each further one would have to be fetched.
        within = reader.shards[0].samples if reader.mount else len(reader)
        positions = np.linspace(0, within - 1, min(within, most)).astype(int).tolist()
        texts += [text for position in positions for text in reader.metadata(position).texts]
        partial = partial or len(positions) < len(reader)
    return texts, partial


def build(experiment: Experiment, manifest: Manifest, words: Words) -> Method:
    """The method at random weights, on the CPU.

    Raises:
        XmrError: as the towers' and the method's own `build`, and `Optimizer.check`.
    """
    size, widths = experiment.data.image_size, manifest.widths
    torch.manual_seed(experiment.train.seed)
    idf = torch.ones(len(words.vectors))  # as the vectors, in place of what takes longer
    dataset = DatasetInfo(
        len(manifest.classes), manifest.multi_label, size, words.vectors, widths,
        published=experiment.method.published, idf=idf,
        frame_size=experiment.data.video.size, sound_rate=experiment.data.audio.rate,
    )  # fmt: skip
    method = build_method(without_weights(experiment.method), dataset)
    experiment.optimizer.check(method, [stage.name for stage in method.training_stages])
    return method


def plans(experiment: Experiment, method: Method) -> Iterator[StagePlan]:
    """Raises XmrError for a stage that has no samples, and for batches that cannot be drawn."""
    train = experiment.train
    for stage in method.training_stages:
        sources = {modality: method.input_kinds[modality] for modality in stage.modalities}
        batches = BatchDataset(experiment.data, "train", sources, None, seed=train.seed)
        plan = Loader(batches, train.batch_size, batch_classes=train.batch_classes).plan(0)
        # Batches grow over an epoch, by one sample at most.
        smallest, largest = (len(plan.batch(step)) for step in (0, plan.steps - 1))
        yield StagePlan(stage, len(batches), plan.steps, smallest, largest)


def check_plan(plan: StagePlan, epochs: int, processes: int) -> Finding:
    """Steps, and whether each process has something to do in each."""
    about = f"stage {plan.stage.name!r}: " if plan.stage.name != "training" else ""
    if plan.stage.closed_form:
        return Finding("steps", f"{about}{plan.samples:,} samples, fitted in closed form")
    text = (
        f"{about}{counted(plan.samples, 'sample')}, {counted(plan.steps, 'step')} per epoch of {plan.largest:,}, "
        f"{counted(plan.steps * epochs, 'step')} in {counted(epochs, 'epoch')}, {counted(processes, 'process')}"
    )
    if plan.smallest < processes:
        idle = processes - plan.smallest
        return problem("steps", f"{text}: batches of {plan.smallest} samples leave {idle} of the processes nothing to "
                       "do; use fewer processes or a larger --train.batch-size")  # fmt: skip
    return Finding("steps", text)


def describe(method: Method, words: Words) -> Iterator[Finding]:
    """The parameters of each part: the towers, and all else as heads."""
    moving, still = Counter[str](), Counter[str]()
    for name, parameter in method.named_parameters():
        part = ".".join(name.split(".")[:2]) if name.startswith("towers.") else "heads"
        (moving if parameter.requires_grad else still)[part] += parameter.numel()
    for part in dict.fromkeys((*moving, *still)):
        counts = {"trained": moving[part], "frozen": still[part]}
        told = [f"{count / 1e6:,.2f} million parameters {how}" for how, count in counts.items() if count]
        yield Finding(part, ", ".join(told))
    if words.tokenizer:
        text = f"{len(words.tokenizer):,} words or subwords"
        if words.partial:
            yield note("vocabulary", f"{text} in the part of the training texts that was read; in all of them there "
                       "are more, and their vectors take more memory")  # fmt: skip
        else:
            yield Finding("vocabulary", text)
