"""The words of a training on its speed, and on how far it got."""

from __future__ import annotations

import io
import re

import pytest

from xmr_e2e.console import Console
from xmr_e2e.runs.checkpoint import TrainingProgress
from xmr_e2e.training import display
from xmr_e2e.training.display import Throughput, training_progress
from xmr_e2e.training.selection import choose_epoch


@pytest.mark.parametrize(
    ("modalities", "unit"), [(["image", "text"], "img/s"), (["audio", "text"], "samples/s"), (["shape3d"], "samples/s")]
)
def test_samples_are_called_images_only_where_there_are_some(modalities: list[str], unit: str) -> None:
    throughput = Throughput(modalities)
    throughput.data_arrived()
    throughput.step_done(8)
    assert re.fullmatch(rf"\d+\.\d {unit}, \d+% waiting for data", str(throughput))


@pytest.mark.parametrize(("select", "shown", "best"), [("mAP@all", 0.25, 0.5), ("loss", 0.5, -0.25)])
def test_an_epoch_that_is_not_kept_is_shown_beside_the_best(select: str, shown: float, best: float) -> None:
    progress = TrainingProgress(best=best)
    name = "loss" if select == "loss" else f"average {select}"
    choice = choose_epoch(select, {name: shown}, progress, "val")
    assert choice.kept is None and choice.best == best
    assert choice.shown == f"validation {select} {shown:.4f}, best {abs(best):.4f}"


def test_the_last_epoch_is_kept_where_nothing_chooses() -> None:
    for select, scores in (("last", {"loss": 1.0}), ("mAP@all", {})):
        choice = choose_epoch(select, scores, TrainingProgress(epoch=4), None)
        assert (choice.best, choice.shown, choice.kept) == (None, "no selection", "epoch 5, the last one")


@pytest.mark.parametrize("width", [40, 60, 90, 140])
def test_the_bar_of_an_epoch_keeps_to_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What gives way first is the end of the words, then the bar; the epoch, its steps and the time left stay."""
    shown = Console(file=io.StringIO(), width=width, height=20, force_terminal=True, no_color=True)
    monkeypatch.setattr(display, "console", shown)
    with training_progress(is_main=True) as progress:
        progress.add_task(
            "prior-image, epoch 8/12", total=8, completed=3, status="0:02:08 left, loss 0.5796, best 0.4173"
        )
        (line,) = shown.render_lines(progress.get_renderable(), pad=False)
    text = "".join(segment.text for segment in line)
    assert len(text) <= width and text.startswith("prior-image, epoch 8/12") and "3/8 0:02:08" in text
    assert ("━" in text) == (width > 80) and ("best 0.4173" in text) == (width > 80)
