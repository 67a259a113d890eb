"""The command line of the synthetic raw set."""

from __future__ import annotations

from preprocessing.common.command import OutFolder, run
from preprocessing.synthetic.raw_set import draw_raw_set
from xmr_e2e.console import Console
from xmr_e2e.shards.parallel import CPUS


def synthetic(
    out: OutFolder,
    /,
    *,
    per_class: int = 50,
    size: tuple[int, int] = (240, 180),
    seed: int = 0,
    workers: int = CPUS,
) -> None:
    """Draw a synthetic raw set in the layout of the UIUC Pascal Sentence page.

    20 classes of drawn scenes, each with five sentences; needs no network. Build shards from it with
    preprocessing.pascal_sentence.

    Example: python -m preprocessing.synthetic data/raw/synthetic --per-class 50

    Args:
        out: the folder to write, which must not hold anything yet
        per_class: pictures of each class
        size: width and height in pixels
        seed: another seed draws another set; the same seed gives the same bytes
        workers: processes that draw
    """
    count = draw_raw_set(out, per_class=per_class, size=size, seed=seed, workers=workers)
    message = f"{count:,} synthetic pictures drawn: {out / 'index.html'}"
    Console().print(message, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run(synthetic)
