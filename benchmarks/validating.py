"""The cost of validation while a model trains, against embedding the same pairs and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Quantity, metric_of, seconds
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.recipes import experiment_of
from benchmarks.training import TimedTrainer, start_kind
from xmr_e2e.data.config import Data
from xmr_e2e.data.images import load_square
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.preparation import Preparation
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.text import pad
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.data.workers import start_loading, worker_options
from xmr_e2e.methods.base import Method
from xmr_e2e.models.embed import BATCH, embed_split

RECIPE = "dscmr_flickr8k"
Pairs = tuple[Tensor, Tokens]
"""uint8 (n, 3, h, w), and as many texts"""


class _Pairs(Dataset[Pairs]):
    """The validation split, batch by batch: pictures decoded and resized, texts as token ids."""

    def __init__(self, data: Data, tokenizer: Tokenizer) -> None:
        self.data, self.tokenizer, self.reader = data, tokenizer, SplitReader(data.shards, "val")

    def __len__(self) -> int:
        return -(-len(self.reader) // BATCH)

    def __getitem__(self, number: int) -> Pairs:
        places = range(number * BATCH, min((number + 1) * BATCH, len(self.reader)))
        pictures = [load_square(self.reader.image(n), self.data.load_size, where=str(n)) for n in places]
        texts = [" ".join(self.reader.metadata(n).texts) for n in places]
        return torch.stack(pictures), pad([self.tokenizer.encode(t, max_tokens=self.data.max_tokens) for t in texts])


class _Validating(TimedTrainer):
    """A trainer that embeds the validation split bare after each of its validations."""

    pairs: list[tuple[float, float]]
    bare: DataLoader[Pairs]

    def _validate(self) -> dict[str, float]:
        scores: dict[str, float] = {}
        took = seconds(lambda: scores.update(super(_Validating, self)._validate()))
        self.pairs.append((took, seconds(lambda: embed_bare(self.method, self.bare))))
        return scores


def validation(
    photographs: Path, /, *, repeats: int = REPEATS, samples: int = 1000, trained: int = 200, recipe: str = RECIPE
) -> Figure:
    """A validation between two epochs, figures and all, against a loop that embeds the same pairs and has its loader's
    processes already.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement, an epoch each
        samples: pairs that are validated on
        trained: pairs of an epoch
        recipe: its name
    """
    whole = experiment_of(recipe)
    data = replace(whole.data, shards=shards_of(list_photographs(photographs), trained, samples))
    train = replace(whole.train, epochs=repeats + 1, batch_size=min(whole.train.batch_size, trained // 2),
                    runs=BUILD / "runs", report=False)  # fmt: skip
    experiment = replace(whole, name="benchmark", data=data, train=train)
    trainer = start_kind(_Validating, experiment)
    assert trainer.saved.tokenizer is not None
    trainer.pairs, trainer.bare = [], _loader(experiment.data, trainer.saved.tokenizer)
    embed_bare(trainer.method, trainer.bare)  # its processes have started
    trainer.fit()
    figure = metric_of(
        "validation",
        Goal("at most", 1.3),
        Quantity(f"validation of {samples:,} pairs while {recipe} trains", "s"),
        Quantity("embedding them bare", "s"),
        trainer.pairs[1:],  # the first has what starts once
    )
    return figure.note(f"embeddings of the two differ by {_difference(trainer):.1g} at most")


def _loader(data: Data, tokenizer: Tokenizer) -> DataLoader[Pairs]:
    options = worker_options(data.workers)
    return DataLoader(_Pairs(data, tokenizer), batch_size=None, persistent_workers=bool(options), **options)


@torch.no_grad()
def embed_bare(method: Method, batches: DataLoader[Pairs]) -> dict[str, Tensor]:
    """Embeddings (n, d) of all pairs, by modality."""
    was_training = method.training
    method.eval()
    found: dict[str, list[Tensor]] = {"image": [], "text": []}
    dataset = batches.dataset
    assert isinstance(dataset, _Pairs)
    prepared = Preparation(dataset.data.image_size).for_evaluation
    for pictures, texts in start_loading(batches):
        found["image"].append(method.embed("image", prepared(pictures.to(method.device))))
        found["text"].append(method.embed("text", Tokens(*(tensor.to(method.device) for tensor in texts))))
    method.train(was_training)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _difference(trainer: _Validating) -> float:
    """The largest between the embeddings of both ways."""
    bare = embed_bare(trainer.method, trainer.bare)
    embedded = embed_split(trainer.method, trainer.experiment.data, trainer.saved.tokenizer, "val")
    differences: Sequence[Tensor] = [(bare[name] - embedded.embeddings[name]).abs().max() for name in bare]
    return max(difference.item() for difference in differences)
