"""The fraction of a dataset's texts that its tokeniser does not know, split by split."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.shards.manifest import load_manifest

SAMPLES = 2000
"""of a split whose texts are looked at"""
MANY = 1 / 3
"""fraction of unknown tokens from which on a person is warned"""

logger = logging.getLogger(__name__)


def unknown_fraction(texts: Iterable[str], tokenizer: Tokenizer) -> float:
    """The fraction of the texts' tokens that the tokeniser does not know (`<unk>`); a text without any counts as one.

    Returns NaN where there are no texts.
    """
    tokens = unknown = 0
    for text in texts:
        found = tokenizer.lookup(text) or [(text, False)]
        tokens += len(found)
        unknown += sum(not known for _, known in found)
    return unknown / tokens if tokens else float("nan")


def unknown_fractions(shards: Path, tokenizer: Tokenizer, splits: Collection[str] | None = None) -> dict[str, float]:
    """Split -> `unknown_fraction` of its texts, of SAMPLES samples spread over it; splits without texts are left out.

    splits: all by default.

    Raises:
        XmrError: the shards cannot be read.
    """
    found = {}
    for split in load_manifest(shards).splits if splits is None else splits:
        reader = SplitReader(shards, split)
        # Of a mounted dataset only the first tar: each further one would have to be fetched.
        within = reader.shards[0].samples if reader.mount else len(reader)
        positions = np.linspace(0, within - 1, min(within, SAMPLES)).astype(int).tolist()
        texts = [text for position in positions for text in reader.metadata(position).texts]
        if texts:
            found[split] = unknown_fraction(texts, tokenizer)
    return found


def describe_unknown(fractions: Mapping[str, float]) -> str:
    """Such as "unknown words (<unk>): train 0.8 %, test 4.1 %"."""
    return "unknown words (<unk>): " + ", ".join(f"{split} {100 * share:.1f} %" for split, share in fractions.items())


def warn_of_unknown(fractions: Mapping[str, float]) -> str | None:
    """A warning with advice where a split has many unknown words; None where none has."""
    many = {split: share for split, share in fractions.items() if share >= MANY}
    if not many:
        return None
    return (
        f"{describe_unknown(many)}: texts of unknown words are all one to the model. Subwords know them: "
        "--data.tokens.kind sentencepiece; or keep rare words: --data.words.min-count 1"
    )


def report_unknown(fractions: Mapping[str, float]) -> None:
    """Log the fractions, as a warning where they are large."""
    warning = warn_of_unknown(fractions)
    if fractions:
        logger.log(logging.WARNING if warning else logging.INFO, "%s", warning or describe_unknown(fractions))
