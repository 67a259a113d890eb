"""The `xmr` command's shell completion."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xmr_e2e.cli import main


@pytest.mark.slow
def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the script that is printed, in a real bash."""
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "xmr").write_text(capsys.readouterr().out)
    asked = """
    complete_it() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _tyro_xmr; echo "${COMPREPLY[@]}"; }
    source ./xmr
    complete_it xmr sh; complete_it xmr shards ver; complete_it xmr eval --pro; complete_it xmr search --fin
    """
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, env={"PATH": path})
    assert done.stdout.splitlines() == ["shards", "verify", "--protocol", "--finds"], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_know_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in ("xmr", "doctor", "--protocol"))
