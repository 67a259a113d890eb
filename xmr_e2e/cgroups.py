"""The share of a machine that Linux's control groups leave this process: of a container, or of a cluster's job."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_Version = Literal[1, 2]


def available_cores() -> int:
    """The cores that this process may use: those on which it may run, and no more than their time that it may take."""
    own = cores_to_run_on()
    return min(own, math.ceil(core_quota() or own))


def cores_to_run_on() -> int:
    """The cores on which this process may run, whatever share of their time it has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """The cores' time that this process's groups may take together, in cores; None where it has no bound.

    A process that has more threads than that is stopped for most of each tenth of a second.
    """
    found = []
    for version, group in own_groups("cpu", cgroups, membership):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        with suppress(OSError, ValueError):  # the root has none; -1 and "max" are no bound
            quota, period = " ".join((group / name).read_text() for name in names).split()
            found.append(int(quota) / int(period))
    return min((quota for quota in found if quota > 0), default=None)


def own_groups(
    controller: str, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP
) -> Iterator[tuple[_Version, Path]]:
    """The folders of this process's group and of those around it, as far as they are seen here, with the version of
    Linux's groups that they are of.

    Args:
        controller: what is limited: "memory", "cpu".
        cgroups: where the groups are mounted.
        membership: the file that says which are this process's.
    """
    version: _Version
    for line in membership.read_text().splitlines() if membership.exists() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            version, root = 2, cgroups
        elif controller in controllers.split(","):
            version, root = 1, cgroups / controller
        else:
            continue
        own = root / path.lstrip("/")
        yield from ((version, group) for group in (own, *own.parents) if group.is_relative_to(root))
