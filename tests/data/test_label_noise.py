"""Label noise: how many labels are wrong, which, and where."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.label_noise import LabelNoise, NoiseKind, describe_noise
from xmr_e2e.data.loader import Loader

MANY = 20_000


def exchanged(noise: LabelNoise, label: int = 2) -> Counter[int]:
    return Counter(noise.of(position, (label,))[0] for position in range(MANY))


@pytest.mark.slow
def test_symmetric_noise_takes_all_other_classes_alike() -> None:
    counts = exchanged(LabelNoise(0.4, "symmetric", 5, seed=1))
    assert counts[2] / MANY == pytest.approx(0.6, abs=0.015)
    assert all(counts[other] / MANY == pytest.approx(0.1, abs=0.01) for other in (0, 1, 3, 4))


@pytest.mark.slow
def test_asymmetric_noise_takes_the_next_class() -> None:
    counts = exchanged(LabelNoise(0.3, "asymmetric", 5, seed=1), label=4)
    assert set(counts) == {4, 0} and counts[0] / MANY == pytest.approx(0.3, abs=0.015)


def test_the_labels_of_a_sample_are_its_own_for_each_seed() -> None:
    noise = LabelNoise(0.5, "symmetric", 10, seed=3)
    once = [noise.of(position, (1,)) for position in range(200)]
    assert once == [noise.of(position, (1,)) for position in range(200)]
    other = [noise._replace(seed=4).of(position, (1,)) for position in range(200)]
    assert 0.2 < np.mean([a == b for a, b in zip(once, other)]) < 0.6


def test_a_lower_rate_exchanges_fewer_of_the_same_labels() -> None:
    low, high = (LabelNoise(rate, "symmetric", 10, seed=3) for rate in (0.2, 0.6))
    wrong = [{p for p in range(2000) if noise.of(p, (1,)) != (1,)} for noise in (low, high)]
    assert wrong[0] < wrong[1]


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_several_labels_stay_distinct(kind: NoiseKind) -> None:
    noise = LabelNoise(0.9, kind, 4, seed=0)
    for position in range(500):
        found = noise.of(position, (0, 1, 3))
        assert len(set(found)) == 3 and list(found) == sorted(found) and set(found) <= set(range(4))
    assert {noise.of(position, (0, 1, 2, 3)) for position in range(100)} == {(0, 1, 2, 3)}  # there is no other


def test_only_the_training_split_has_wrong_labels_the_same_in_each_epoch(tiny_shards: Path) -> None:
    data = Data(tiny_shards, image_size=32, load_size=32, workers=0)
    noisy = replace(data, label_noise=0.5)
    for split in ("val", "test"):
        clean, same = (BatchDataset(each, split, {"image": "pixels"}, None, seed=1) for each in (data, noisy))
        assert clean.labels(clean.positions).equal(same.labels(same.positions))
    clean, wrong = (BatchDataset(each, "train", {"image": "pixels"}, None, seed=1) for each in (data, noisy))
    before, after = clean.labels(clean.positions), wrong.labels(wrong.positions)
    changed = (before != after).any(1)
    assert 8 < changed.sum() < 32 and after.sum(1).eq(1).all()
    by_class = np.concatenate(wrong.classes)
    assert sorted(by_class.tolist()) == list(range(40))
    assert all(after[rows, number].all() for number, rows in enumerate(wrong.classes))  # batches by class, too
    for epoch in range(2):
        for batch in Loader(wrong, 8).epoch(epoch):
            assert batch.labels.equal(after[batch.positions])


def test_it_is_said_in_words() -> None:
    data = Data(Path("x"), label_noise=0.4, label_noise_kind="asymmetric")
    assert describe_noise(data) == "0.4 of the training labels exchanged, asymmetric" and not describe_noise(
        Data(Path("x"))
    )
