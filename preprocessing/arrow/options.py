"""Options of the commands that read such tables. Light: `xmr --help` imports them."""

from __future__ import annotations

from dataclasses import dataclass, field

from xmr_e2e.bounds import Count, Fraction, Seed
from xmr_e2e.shards.parallel import CPUS


@dataclass(frozen=True)
class ColumnOptions:
    """Columns of a table."""

    image: str | None = None
    """the column of pictures: bytes, paths, or the hub's pictures; by default the one that is"""
    text: tuple[str, ...] = ()
    """the column of texts, or several; by default those called text, texts, caption or captions (also caption_0,
    caption_1, …), or the only one that holds text. A column of lists holds several texts"""
    label: tuple[str, ...] = ()
    """the column of labels, or several; by default label or labels, or the only one of classes"""


@dataclass(frozen=True)
class SplitOptions:
    """Splits of a table."""

    split_column: str | None = None
    """of a table in one part: the column of splits; by default split, if there is one"""
    splits: dict[str, str] = field(default_factory=dict)
    """what splits of other names are, in pairs: restval train unsupervised none, where none leaves one out"""
    val: Fraction | None = None
    """share of each class that is drawn for validation, where no such split is given; 0.1 by default, and 0 if there
    are splits"""
    test: Fraction | None = None
    """share of each class that is drawn for testing, where no such split is given; as val by default"""
    seed: Seed | None = None
    """another seed draws other splits, where they are drawn; 0 by default"""


@dataclass(frozen=True)
class PackOptions:
    """Options of the shards."""

    resize: Count | None = None
    """re-encode images with their shorter side at this many pixels; by default the original bytes are kept"""
    shard_samples: Count = 500
    """samples per shard"""
    max_skipped: Fraction = 0.01
    """the build fails when a larger share of the samples than this cannot be used"""
    workers: Count = CPUS
    """processes that build shards"""
    overwrite: bool = False
    """replace the dataset that lies in OUT"""
    outside: bool = False
    """take pictures that lie outside of the table's folder, where its paths or links lead: only if they are yours"""
