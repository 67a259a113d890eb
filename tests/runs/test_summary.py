"""The end of a training: what is there is named, and what is not is not."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from tests.helpers.made_runs import Made
from xmr_e2e.runs.run import Run
from xmr_e2e.runs.summary import summary


def test_cost_files_and_commands_of_a_run(tmp_path: Path) -> None:
    run = Run(Made().write(tmp_path / "a run"))
    experiment = run.experiment()
    (run.folder / "model.safetensors").write_bytes(b"")
    run.metrics.write_text(json.dumps({"step": 1, "seconds": 3723.4, "peak_memory": 2_340_000_000}) + "\n")
    lines = summary(run, experiment).splitlines()
    assert lines[0] == "trained for 1:02:03, 2.3 GB at most"
    assert lines[1:3] == [f"weights: {run.folder / 'model.safetensors'}", f"losses:  {run.folder / 'metrics.jsonl'}"]
    commands = [shlex.split(line.removeprefix("next:"), comments=True) for line in lines[3:]]
    assert commands == [
        ["xmr", "search", str(run.folder), "a sentence"],
        ["xmr", "report", str(run.folder), "OTHER"],
        ["xmr", "export", str(run.folder), "OUT"],
    ]


def test_a_method_without_texts_is_asked_with_a_file(tmp_path: Path) -> None:
    run = Run(Made().write(tmp_path / "run"))
    experiment = run.experiment()
    blind = replace(experiment, method=replace(experiment.method, text=None, audio=experiment.method.image))
    assert "photo.jpg" in summary(run, blind)


def test_records_that_are_damaged_are_no_error(tmp_path: Path) -> None:
    run = Run(Made().write(tmp_path / "run"))
    run.metrics.write_text("{")
    assert summary(run, run.experiment()).startswith("losses:")
