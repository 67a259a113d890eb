"""SDCMR's ablation (Table III) on Flickr8k's photographs with weak labels, small enough for two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    xmr study run sdcmr_table3_small
    xmr study show sdcmr_table3_small --out sdcmr_table3_small.html

End to end and in four epochs.
"""

from xmr_e2e.recipes.sdcmr_flickr8k import experiment as flickr8k
from xmr_e2e.recipes.studies._sdcmr import FULL, ROWS
from xmr_e2e.recipes.studies._settings import shortened
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The rows of the table."""
    recipe = shortened(flickr8k(), 4)
    return Study("SDCMR without terms of its loss", (recipe,), ROWS, reference=FULL)


if __name__ == "__main__":
    main(study)
