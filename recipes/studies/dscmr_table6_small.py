"""DSCMR's ablation (Table 6) on Flickr8k's photographs with weak labels, small enough for two cores.

python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
xmr study run dscmr_table6_small
xmr study show dscmr_table6_small --out dscmr_table6_small.html
"""

from dataclasses import replace

from xmr_e2e.recipes.dscmr_flickr8k import experiment as flickr8k
from xmr_e2e.studies import Study, Sweep, Variant, main


def study() -> Study:
    """The rows of the table."""
    base = flickr8k()
    return Study(
        title="DSCMR without parts of its objective",
        recipes=(replace(base, train=replace(base.train, epochs=4)),),
        variants=(Variant("without J3", {"method.invariance": 0.0}),),
        sweeps=(Sweep("method.invariance", (0.01, 0.1, 1.0), is_logarithmic=True),),
        reference="DSCMR",
    )


if __name__ == "__main__":
    main(study)
