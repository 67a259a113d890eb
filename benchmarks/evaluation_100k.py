"""mAP@all of 100,000 images and 100,000 texts, both ways: how long it takes, and in how much memory.

    python -m benchmarks.evaluation_100k
    python -m benchmarks.evaluation_100k --items 5000 --out evaluation.json

The embeddings are random, around a random centre of each class. On a part of them the figures are compared with those
of brute force: all scores at once in fp64, rounded to fp32 as in `xmr_e2e.evaluation`, sorted by numpy, one query after
the other.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from xmr_e2e.console import console, report_errors
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.metrics import mean_average_precision
from xmr_e2e.files import write_atomically

AGREEMENT = 1e-9


@dataclass(frozen=True)
class Direction:
    """The measurements of one direction of retrieval."""

    direction: str
    map_at_all: float
    seconds: float
    memory_mb: float
    """the peak above what the process held before, embeddings included"""
    difference: float
    """from brute force, on the part"""


def evaluation(
    *,
    items: int = 100_000,
    dim: int = 512,
    classes: int = 10,
    part: int = 3_000,
    seed: int = 0,
    device: str = "cpu",
    out: Path | None = None,
) -> None:
    """Measure mAP@all both ways, its time and its memory, and compare a part with brute force.

    Args:
        items: images, and as many texts
        dim: of the embeddings
        part: images and texts that brute force ranks
        device: cpu, on which the memory is measured, or cuda
        out: a file for the results (JSON)
    """
    sides, labels = random_sides(items, dim=dim, classes=classes, seed=seed, device=device)
    console.print(f"{items:,} images and texts, {dim} dimensions, {classes} classes, {torch.get_num_threads()} threads")
    rows = []
    for way in (("image", "text"), ("text", "image")):
        rows.append(row := _measure(sides, *way, labels, part))
        console.print(
            f"{row.direction}: mAP@all {row.map_at_all:.6f} in {row.seconds:.0f} s, {row.memory_mb:.0f} MB above the "
            f"embeddings; on {part:,} of them {row.difference:.1e} from brute force"
        )
    if out:
        setting = {"items": items, "dim": dim, "classes": classes, "threads": torch.get_num_threads(), "device": device}
        write_atomically(out, json.dumps({**setting, "directions": [asdict(row) for row in rows]}).encode())
    if max(row.difference for row in rows) > AGREEMENT:
        raise XmrError(f"the figures are not those of brute force to {AGREEMENT:.0e}")


def random_sides(
    items: int, *, dim: int = 512, classes: int = 10, seed: int = 0, device: str = "cpu"
) -> tuple[dict[str, Tensor], Tensor]:
    """Images' and texts' embeddings (items, dim), and their classes (items,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (items,), generator=generator)
    centers = torch.randn(classes, dim, generator=generator) * 0.1
    sides = {name: _embeddings(labels, centers, generator).to(device) for name in ("image", "text")}
    return sides, labels.to(device)


def _embeddings(labels: Tensor, centers: Tensor, generator: torch.Generator) -> Tensor:
    rows = torch.randn(len(labels), centers.shape[1], generator=generator)
    for number, center in enumerate(centers):
        rows[labels == number] += center
    return rows


def _measure(sides: dict[str, Tensor], query: str, gallery: str, labels: Tensor, part: int) -> Direction:
    held = _start_peak()
    start = time.perf_counter()
    figure = mean_average_precision(sides[query], sides[gallery], labels, labels)
    seconds = time.perf_counter() - start
    memory = _status("VmHWM") - held
    given = sides[query][:part], sides[gallery][:part], labels[:part], labels[:part]
    difference = abs(mean_average_precision(*given) - _brute_force(*(each.numpy(force=True) for each in given)))
    return Direction(f"{query} to {gallery}", figure, seconds, memory, difference)


def _brute_force(queries: np.ndarray, gallery: np.ndarray, query_labels: np.ndarray, labels: np.ndarray) -> float:
    scores = _unit(queries) @ _unit(gallery).T
    total = 0.0
    for row, label in zip(scores.astype(np.float32), query_labels):
        relevant = labels[np.argsort(-row, kind="stable")] == label
        precision = relevant.cumsum() / np.arange(1, len(relevant) + 1)
        total += precision[relevant].mean() if relevant.any() else 0.0
    return total / len(queries)


def _unit(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def _start_peak() -> float:
    """Forget the process's peak so far (Linux); what it holds now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    sys.exit(report_errors(lambda: tyro.cli(evaluation, prog="python -m benchmarks.evaluation_100k")))
