"""SDCMR on features of other networks, on Wikipedia and NUS-WIDE (Table V): BLIP-2, and CLIP beside it.

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python -m preprocessing.nuswide RAW data/shards/nuswide_10_class --subset 10-class
    xmr study run sdcmr_table5
    xmr study show sdcmr_table5 --out sdcmr_table5.html

Both modalities by the pretrained model, which stays as it is. VGG-19 with the sentence CNN, the first row, and CLIP are
not in the table. BLIP-2 without SDCMR, which is, is no run: what was trained of it is not stated.
"""

from xmr_e2e import Tokenization
from xmr_e2e.recipes.sdcmr_nuswide import experiment as nuswide
from xmr_e2e.recipes.sdcmr_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Variant, main
from xmr_e2e.towers import PretrainedText, PretrainedVision


def pretrained(row: str, name: str) -> Variant:
    """Both towers and the tokens of a model of the Hugging Face hub."""
    return Variant(
        row,
        {
            "method.image": PretrainedVision(name),
            "method.text": PretrainedText(name),
            "data.tokens": Tokenization("transformers", name=name),
        },
    )


def study() -> Study:
    """A row for each network."""
    return Study(
        title="SDCMR on features of other networks",
        recipes=(frozen(wikipedia()), frozen(nuswide())),
        variants=(
            pretrained("+SDCMR", "Salesforce/blip2-itm-vit-g"),
            pretrained("+SDCMR, on CLIP", "openai/clip-vit-base-patch32"),
        ),
        reference="VGG-19",
        published="sdcmr, Table V",
    )


if __name__ == "__main__":
    main(study)
