"""Queries are divided among the processes of a group, and each ends with the figures of one process."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.helpers.embedded import embedded_split
from tests.helpers.forked import free_port, run_ranks
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.metrics import mean_average_precision, precision_recall_curve
from xmr_e2e.evaluation.per_query import Discount
from xmr_e2e.evaluation.ranking import Ranking
from xmr_e2e.evaluation.retrieval import retrieval_metrics

WORLDS = (2, 3)
pytestmark = pytest.mark.processes


def metrics() -> dict[str, Any]:
    """Of 23 pictures with two captions each, and of 2 queries alone; and which queries were ranked here."""
    rng = np.random.default_rng(0)
    rows = {"image": rng.standard_normal((23, 6)), "text": rng.standard_normal((46, 6))}
    places = {"image": np.arange(23), "text": np.arange(46) // 2}
    embedded = embedded_split(rows, (rng.random((23, 4)) < 0.4).astype(np.float32), positions=places)
    image, text = embedded.items("image"), embedded.items("text")
    ranked: list[tuple[int, int]] = []
    chunks = Ranking.chunks

    def recorded(self: Ranking, rows: slice, function: Any) -> Any:
        ranked.append((rows.start, rows.stop))
        return chunks(self, rows, function)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranking, "chunks", recorded)
        discount = Discount(5, torch.arange(46) % 2)
        whole = asdict(cross_modal_metrics(embedded, discounts={"text_to_image": discount}, random_rankings=2))
        few = retrieval_metrics(
            image.embeddings[:2], text.embeddings, image.labels[:2], text.labels,
            query_ids=image.keys[:2], gallery_ids=text.keys,
        )  # fmt: skip
        single = image.embeddings, text.embeddings, image.labels, text.labels
        alone = mean_average_precision(*single), asdict(precision_recall_curve(*single))
    return {"whole": whole, "few": asdict(few), "alone": alone, "ranked": ranked}


def run_rank(rank: int, ports: dict[int, int], out: str) -> None:
    torch.set_num_threads(1)
    for world, port in ports.items():
        if rank < world:
            dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
            torch.save(metrics(), f"{out}/{world}-{rank}.pt")
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two and then three processes found."""
    out = tmp_path_factory.mktemp("ranks")
    run_ranks(run_rank, ({world: free_port() for world in WORLDS}, str(out)), max(WORLDS))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_every_process_has_the_figures_of_one(folder: Path, world: int) -> None:
    expected = metrics()
    found = [torch.load(folder / f"{world}-{rank}.pt", weights_only=False) for rank in range(world)]
    for each in found:
        assert {name: each[name] for name in ("whole", "few", "alone")} == {
            name: expected[name] for name in ("whole", "few", "alone")
        }
    # image to text and back, with two random rankings each; then single figures of the pictures
    parts = list(zip(*(each["ranked"] for each in found)))
    for whole, shares in zip(expected["ranked"], parts):
        if whole == (0, 2) and world == 3:  # fewer queries than processes: each ranks them all
            assert set(shares) == {whole}
        else:
            assert [first for first, _ in shares[1:]] == [last for _, last in shares[:-1]]
            assert (shares[0][0], shares[-1][1]) == whole
            assert all(first < last for first, last in shares)
