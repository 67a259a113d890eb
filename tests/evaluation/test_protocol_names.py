"""Each protocol's facts, one by one: they come from papers and scripts, and nothing else in the program checks them."""

from __future__ import annotations

import pytest

from xmr_e2e.data.captions import Captions
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import CLEAN, Protocol, ProtocolRecord
from xmr_e2e.methods.protocols import protocol, protocol_names

FIVE = Captions(most=5)
# select, selected_on, captions, similarity, ndcg_stride, whole_batches, folds
FACTS = {
    "clean": (None, "val", None, None, None, None, False),
    "captions": (None, "val", Captions(), None, None, None, False),
    "coco5k": (None, "val", FIVE, None, None, None, False),
    "coco1k": (None, "val", FIVE, None, None, None, True),
    "released:dscmr": ("mAP@all", "test", None, "cosine", None, None, False),
    "released:drcl": ("loss", "val", None, "cosine", None, None, False),
    "released:semantic_sharing": (
        "training loss", "training loss", Captions(distinct=True), "cosine", None, None, False
    ),
    "released:semantic_sharing_coco": ("training loss", "training loss", FIVE, "dot", 5, None, False),
    "released:acmr": ("last", "nothing", None, None, None, 64, False),
}  # fmt: skip


def test_every_protocol_has_its_facts_here() -> None:
    assert set(FACTS) == set(protocol_names())


@pytest.mark.parametrize("name", FACTS)
def test_a_protocol_measures_as_its_script_does(name: str) -> None:
    own = protocol(name)
    assert FACTS[name] == (
        own.select, own.selected_on, own.captions, own.similarity, own.ndcg_stride, own.whole_batches, own.folds
    )  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_an_epoch_that_is_chosen_otherwise_is_said_in_the_result(name: str) -> None:
    own = protocol(name)
    is_other = (own.select, own.selected_on) != (CLEAN.select, CLEAN.selected_on)
    assert bool(own.choice) == is_other
    differences = (*((own.choice,) if is_other else ()), *own.quirks)
    assert own.record(own.selected_on, "test") == ProtocolRecord(name, "test", own.selected_on, differences)


def test_a_gallery_with_the_training_split_is_said_in_a_sentence_of_its_own() -> None:
    own = protocol("coco5k")
    found = own.record("val", "test+train")
    assert found.gallery == "test+train"
    said = "The gallery holds the training split's samples beside the test split's."
    assert found.differences == (*own.quirks, said)


@pytest.mark.parametrize("name", FACTS)
def test_whatever_is_measured_otherwise_is_said_in_the_result(name: str) -> None:
    own, said = protocol(name), " ".join(protocol(name).quirks)
    assert ("captions" in said or "caption is an item" in said) == (own.captions is not None)
    assert ("five captions" in said) == (own.captions == FIVE)
    assert ("compared by" in said) == (own.similarity is not None)
    assert ("NDCG" in said) == (own.ndcg_stride is not None)
    assert ("whole batches of 64" in said) == (own.whole_batches == 64)
    assert ("five folds of the test split" in said) == own.folds


def test_a_choice_that_a_run_did_not_make_is_not_said_of_it() -> None:
    own = Protocol("p", selected_on="test", choice="Chosen on test.", quirks=("Cut off.",))
    assert own.differences("test") == ("Chosen on test.", "Cut off.")
    assert own.differences("val") == (
        "The epoch was not selected as p has it, but on the validation split.",
        "Cut off.",
    )


@pytest.mark.parametrize("selected_on", ["test", "training loss"])
def test_an_epoch_chosen_on_test_or_by_a_training_loss_is_not_given_out_as_clean(selected_on: str) -> None:
    with pytest.raises(XmrError, match=r"measure it with --protocol released:dscmr"):
        CLEAN.check_selection(selected_on, "released:dscmr")  # type: ignore[arg-type]
    protocol("released:dscmr").check_selection(selected_on, "released:dscmr")  # type: ignore[arg-type]
    CLEAN.check_selection("nothing", "released:acmr")
