"""The threads of a process: its share of the cores, unless a person has said how many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmr_e2e.cgroups import available_cores
from xmr_e2e.training import threads
from xmr_e2e.training.threads import threads_of_process

TELL = "import xmr_e2e, torch; from xmr_e2e.training.threads import share_cores; share_cores(); "
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 8),
        ({"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"LOCAL_WORLD_SIZE": "3"}, 2),
        ({"LOCAL_WORLD_SIZE": "20"}, 1),
        ({"OMP_NUM_THREADS": "1"}, None),
        ({"OMP_NUM_THREADS": "3", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}, None),
        ({"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}, 4),
        ({"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, None),
    ],
)
def test_ranks_share_the_cores_unless_a_number_is_said(
    environment: dict[str, str], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_environment_of_parent", dict)
    assert threads_of_process(environment, 8) == expected


def test_a_number_that_the_launcher_was_started_with_is_a_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_environment_of_parent", lambda: {"OMP_NUM_THREADS": "1"})
    own = {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
    assert threads_of_process(own, 8) is None


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("said", [None, "1"])
def test_processes_of_torchrun_share_the_cores(said: str | None, tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    script.write_text(TELL + "print('threads', torch.get_num_threads(), flush=True)")
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment = own if said is None else {**own, "OMP_NUM_THREADS": said}
    found = subprocess.run([*TORCHRUN, str(script)], env=environment, capture_output=True, text=True, check=True)
    expected = max(1, available_cores() // 2) if said is None else 1
    assert found.stdout.count(f"threads {expected}\n") == 2


@pytest.mark.slow
def test_threads_that_wait_sleep() -> None:
    """As OpenMP says it, which reads its settings when torch is imported."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    words = [sys.executable, "-c", TELL]
    found = subprocess.run(
        words, env={**own, "OMP_DISPLAY_ENV": "true"}, capture_output=True, text=True, check=True
    ).stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in found
