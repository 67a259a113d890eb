"""Protocols: on what the epoch is selected, what the items are, and how they are compared.

`clean` selects on validation and measures the test split once. The others are said by what they do otherwise: that in
which each caption is an item, and those of COCO's customary galleries, which are here, and those of released scripts,
whose quirks change figures: each method declares its own (`xmr_e2e.methods.protocols` knows all by name). A script's
facts were read in its authors' code; docs/reproduction.md has them paper by paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from xmr_e2e.data.captions import Captions
from xmr_e2e.errors import XmrError
from xmr_e2e.similarity import Similarity

SelectedOn: TypeAlias = Literal["val", "test", "training loss", "nothing"]
Gallery: TypeAlias = Literal["test", "test+train"]

Name = Annotated[str, Field(max_length=1000)]
Words = Annotated[str, Field(max_length=10_000)]

FOLD_MARK = "#fold"
"""In the source of a sample of the test split, before the number of its fold (`preprocessing.mscoco`)."""


@dataclass(frozen=True)
class ProtocolRecord:
    """The protocol of a result, as `Protocol.record` has it."""

    name: Name
    gallery: Name
    selected_on: SelectedOn
    differences: Annotated[tuple[Words, ...], Field(max_length=100)]
    """from clean, in sentences"""


@dataclass(frozen=True)
class Protocol:
    """The selection and measurement of a figure. Each field's default is what `clean` does."""

    name: str
    select: str | None = None
    """criterion of the epoch to keep where a method's stage leaves it open, instead of --train.select: the name of a
    figure, "loss" (on the split of `selected_on`), "training loss" or "last\""""
    selected_on: SelectedOn = "val"
    choice: str = ""
    """the difference in the choice of the epoch, in a sentence"""
    captions: Captions | None = None
    """the captions that are items of their own; None: a sample has one text"""
    similarity: Similarity | None = None
    """the similarity of embeddings; None: the method's own"""
    ndcg_stride: int | None = None
    """from text to image, NDCG discounts rank r (from 0) by 1 / log2(stride r + i + 2), i the number of the caption
    that asks among its picture's; None: by 1 / log2(r + 2)"""
    whole_batches: int | None = None
    """only as many samples are measured as fill batches of this size"""
    folds: bool = False
    """the mean over the folds that the test split's sources name, each a gallery of its own"""
    quirks: tuple[str, ...] = ()
    """in sentences, what is different about measuring"""

    def differences(self, selected_on: SelectedOn) -> tuple[str, ...]:
        """From `clean`, in sentences, for a model whose epoch was selected on this."""
        if selected_on == self.selected_on:
            return (*((self.choice,) if self.choice else ()), *self.quirks)
        of_the_run = f"The epoch was not selected as {self.name} has it, but on {_SELECTED_ON[selected_on]}."
        return (of_the_run, *self.quirks)

    def record(self, selected_on: SelectedOn, gallery: str) -> ProtocolRecord:
        """The protocol as results have it, for a model whose epoch was selected on this."""
        differences = list(self.differences(selected_on))
        if gallery == "test+train":
            differences.append("The gallery holds the training split's samples beside the test split's.")
        return ProtocolRecord(self.name, gallery, selected_on, tuple(differences))

    def check_selection(self, selected_on: SelectedOn, trained_by: str) -> None:
        """Raise XmrError where a model selected on test, or by the training loss, were given out as selected cleanly.

        Args:
            trained_by: the name of the protocol by which the epoch was selected.
        """
        if self.selected_on == "val" and selected_on in ("test", "training loss"):
            raise XmrError(
                f"this run's epoch was selected on {_SELECTED_ON[selected_on]} (--train.protocol {trained_by}), so it "
                f"cannot be measured as {self.name}: measure it with --protocol {trained_by}, or train again with "
                f"--train.protocol {self.name}"
            )


_SELECTED_ON: Mapping[SelectedOn, str] = {
    "val": "the validation split",
    "test": "the test split",
    "training loss": "the loss of training batches",
    "nothing": "nothing: it is the last",
}
COMPARED_BY_COSINE = "Embeddings are compared by cosine, whatever the method's own score is."
EACH_CAPTION = (
    "Each caption is an item of its own: a picture's query is right with any of its captions, and each caption is a "
    "query."
)
FIVE_CAPTIONS = (
    "The first five captions of a picture are items of their own: a picture's query ranks five texts for each picture "
    "of the gallery, and each caption is a query."
)

CLEAN = Protocol("clean")
GENERAL = (
    CLEAN,
    Protocol("captions", captions=Captions(), quirks=(EACH_CAPTION,)),
    Protocol("coco5k", captions=Captions(most=5), quirks=(FIVE_CAPTIONS,)),
    Protocol(
        "coco1k",
        captions=Captions(most=5),
        folds=True,
        quirks=(
            FIVE_CAPTIONS,
            "Figures are the mean over five folds of the test split, each a gallery of its own of a thousand pictures.",
        ),
    ),
)
"""those that belong to no paper; a method declares its own (`MethodConfig.protocols`)"""


def fold_numbers(sources: Sequence[str], where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(n,) the fold of each sample, from its source.

    Raises:
        XmrError: a source names none.
    """
    marks = [source.rpartition(FOLD_MARK)[2] if FOLD_MARK in source else "" for source in sources]
    for source, mark in zip(sources, marks):
        if not mark.isdecimal():
            raise XmrError(
                f"{where}: the sample {source!r} names no fold, as the sources of MSCOCO's test split do "
                f"({FOLD_MARK}0 to {FOLD_MARK}4); measure the split as a whole, for MSCOCO with coco5k"
            )
    return np.array(marks, np.int64)
