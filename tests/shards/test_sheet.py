"""`xmr shards sheet`: which samples it draws."""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.data.command import _draw_samples


def test_a_seed_draws_the_same_samples_each_time_and_another_seed_others(tiny_shards: Path) -> None:
    def drawn(seed: int, count: int = 6) -> list[str]:
        return [tile.text for tile in _draw_samples(tiny_shards, "train", count, seed)]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(set(drawn(0))) == 6
    assert drawn(0, 1000) == drawn(1, 1000) and len(drawn(0, 1000)) == 40
