"""The measures by which embeddings are compared."""

from __future__ import annotations

from typing import Literal, TypeAlias

Similarity: TypeAlias = Literal["cosine", "pearson", "dot", "euclidean"]
