"""The cores of a process by affinity and by quotas of control groups, on written files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xmr_e2e import cgroups

OF_JOB = {"job": "150000 100000", "job/step": "max 100000"}


def write_groups(folder: Path, quotas: dict[str, str]) -> None:
    """Of version 2; a version 1 group has its numbers in two files."""
    for name, quota in quotas.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "cpu.max").write_text(f"{quota}\n")


@pytest.mark.parametrize(
    ("quotas", "membership", "expected"),
    [
        (OF_JOB, "0::/job/step\n", 1.5),  # that of a group around it holds as well
        ({**OF_JOB, "job/step": "50000 100000"}, "0::/job/step\n", 0.5),
        ({".": "400000 100000"}, "0::/\n", 4.0),  # a container sees its own group as the root
        ({".": "400000 100000"}, "0::/../beside\n", 4.0),
        ({"job": "max 100000"}, "0::/job\n", None),
        ({}, "0::/job\n", None),
        ({"job": "what is this\n"}, "0::/job\n", None),
    ],
)
def test_the_smallest_quota_counts(
    quotas: dict[str, str], membership: str, expected: float | None, tmp_path: Path
) -> None:
    write_groups(tmp_path / "mounted", quotas)
    (tmp_path / "self").write_text(membership)
    assert cgroups.core_quota(tmp_path / "mounted", tmp_path / "self") == expected


@pytest.mark.parametrize(("quota", "expected"), [("250000", 2.5), ("-1", None)])
def test_quotas_of_version_1(quota: str, expected: float | None, tmp_path: Path) -> None:
    group = tmp_path / "cpu" / "docker" / "a"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "self").write_text("4:memory:/docker/a\n1:cpu,cpuacct:/docker/a\n0::/\n")
    assert cgroups.core_quota(tmp_path, tmp_path / "self") == expected


def test_no_groups_are_no_bound(tmp_path: Path) -> None:
    assert cgroups.core_quota(tmp_path, tmp_path / "self") is None


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"), [(8, None, 8), (8, 2.5, 3), (2, 2.5, 2), (8, 0.2, 1), (4, 4.0, 4)]
)
def test_cores_are_those_of_affinity_and_quota(
    affinity: int, quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setattr(cgroups, "core_quota", lambda: quota)
    assert cgroups.available_cores() == expected
