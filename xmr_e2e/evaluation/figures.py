"""The figures of an evaluation as results hold them. Who reads results needs nothing that measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

# Within bounds, since results are read from files of others as well: neither NaN nor infinite.
Number = Annotated[float, Field(ge=-(10.0**15), le=10.0**15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Points = Annotated[list[Number], Field(min_length=1, max_length=10_000)]
Score = Annotated[str, Field(max_length=1000)]
DirectionName = Annotated[str, Field(pattern=r"^[a-z0-9]{1,50}_to_[a-z0-9]{1,50}$")]

OTHERS = "others"
"""in a direction's name, in the place of the gallery's modality: a mixed pool of all but the query's own"""
RSUM = "rsum"
"""the sum of recalls over all directions, by which retrieval without labels is selected"""


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Mean interpolated precision at fixed levels of recall; empty where it was not measured."""

    recall: Points
    precision: Points

    @classmethod
    def of(cls, precision: list[float]) -> PrecisionRecallCurve:
        """precision: at levels of recall that have the same distance, from 0 to 1"""
        steps = len(precision) - 1
        return cls([step / steps for step in range(steps + 1)], precision)


@dataclass(frozen=True)
class PrecisionScopeCurve:
    """Mean fraction of relevant items among the first k; no k is more than the gallery's items. Empty where it was not
    measured."""

    k: Annotated[list[Annotated[int, Field(ge=-(10**15), le=10**15)]], Field(min_length=1, max_length=10_000)]
    precision: Points


@dataclass(frozen=True, kw_only=True)
class RetrievalMetrics:
    """The metrics of one direction of retrieval. Results of early versions have the scores and the queries alone."""

    scores: dict[Score, Number]
    """"mAP@all", "mAP@k" and "NDCG@k" by labels, missing where there are none. By pair, missing where no query has one
    in the gallery: "R@k", the share of the queries with a pair that have it among the first k; "MedR", the median of
    its rank, from 1; "Pearson", the mean correlation coefficient of the embeddings of a pair."""
    curve: PrecisionRecallCurve = PrecisionRecallCurve([], [])
    scope: PrecisionScopeCurve = PrecisionScopeCurve([], [])
    per_class: dict[int, Number] = field(default_factory=dict)
    """class -> mAP@all of the queries that have it; classes that no query has are missing"""
    queries: Count
    gallery: Count = 0
    queries_with_pair: Count = 0
    """queries whose own id is in the gallery"""
    queries_without_relevant: Count = 0
    """queries that share no label with any item: they count 0 in mAP, in NDCG and in the curves"""
    standard_errors: dict[Score, Number] = field(default_factory=dict)
    """of the scores that are means over queries; none of means over rankings or folds"""

    @property
    def is_complete(self) -> bool:
        """True where all was measured that this version measures."""
        return bool(self.gallery and (not self.is_labeled or (self.curve.recall and self.scope.k)))

    @property
    def is_labeled(self) -> bool:
        """False where there were no labels to measure by."""
        return "mAP@all" in self.scores


@dataclass(frozen=True)
class Directions:
    """The metrics of every ordered pair of modalities."""

    directions: Annotated[dict[DirectionName, RetrievalMetrics], Field(max_length=100, validation_alias="figures")]
    """"image_to_text", "text_to_image", …: the query's modality first. "figures" in result files"""
    average: dict[Score, Number]
    """of each score over the directions that have it; with "rsum", the sum of recalls over all of them"""
    pools: Annotated[dict[DirectionName, RetrievalMetrics], Field(max_length=100)] = field(default_factory=dict)
    """"image_to_others", …: queries of one modality, the items of all others as one gallery. No part of the average.
    Empty for two modalities, in validation, and in results of early versions"""

    @property
    def rows(self) -> dict[str, RetrievalMetrics]:
        """The metrics of all directions, and behind them those of the mixed pools."""
        return {**self.directions, **self.pools}

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(split_direction(direction)[0] for direction in self.directions))

    @property
    def is_labeled(self) -> bool:
        """False where there were no labels to measure by."""
        return any(each.is_labeled for each in self.directions.values())


@dataclass(frozen=True)
class CrossModalMetrics:
    """All that was measured of one model on one split."""

    model: Directions
    random: Directions
    """the same metrics for random rankings of the same items"""
    definitions: dict[Score, Annotated[str, Field(max_length=10_000)]] = field(default_factory=dict)
    """the definition of each metric as computed, in words; empty in results of early versions"""

    @property
    def is_complete(self) -> bool:
        """True where all is there that this version measures."""
        return (
            bool(self.definitions)
            and self.model.directions.keys() == self.random.directions.keys()
            and self.model.pools.keys() == self.random.pools.keys()
            and all(each.is_complete for side in (self.model, self.random) for each in side.rows.values())
        )


def direction_name(query: str, gallery: str) -> str:
    """The name of a direction in result files: "image_to_text"."""
    return f"{query}_to_{gallery}"


def split_direction(direction: str) -> tuple[str, str]:
    """The modality of the queries and that of the gallery, from a direction's name."""
    query, _, gallery = direction.partition("_to_")
    return query, gallery


def is_pool(direction: str) -> bool:
    """True for a mixed pool's name, "image_to_others"."""
    return split_direction(direction)[1] == OTHERS


def modality_title(modality: str) -> str:
    """A modality, or the pool of all others, as it is written for people."""
    return {"shape3d": "3D shape", OTHERS: "all others"}.get(modality, modality)


def direction_title(direction: str) -> str:
    """A direction as it is written for people: "image → text"."""
    return " → ".join(map(modality_title, split_direction(direction)))
