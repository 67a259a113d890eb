"""Semantic Sharing as a whole: its terms against the paper's equations in loops, and what learns from which term."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xmr_e2e.data.inputs import CachedFeatures, Regions, Tokens
from xmr_e2e.data.text import UNKNOWN
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.semantic_sharing import SemanticSharing, SemanticSharingModel
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.towers.base import DatasetInfo, TokenFeatures
from xmr_e2e.towers.regions import GridRegions, StoredRegions
from xmr_e2e.towers.text import BiGruWords

N, REGIONS, WORDS, CLASSES, OBJECTS, VOCABULARY, DIM = 4, 5, 6, 3, 7, 14, 8
LENGTHS = torch.tensor([6, 3, 5, 2])
LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]])
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "softmax": {"scores": "softmax"},
    "released": {"released": True},
    "released softmax": {"released": True, "scores": "softmax"},
    "context": {"context": 0.7},
    "masked": {"masked": 0.9},
    "objects": {"objects": OBJECTS + 4},
    "sinusoids": {"positions": "sinusoids"},
    "layer": {"phi": "layer"},
    "as printed": {"positions": "sinusoids", "phi": "layer", "scores": "softmax"},
}
CONTEXT_ALONE = {"label": 0.0, "embedding": "states"}
NO_CONTEXT = {"context": 0.0, "masked": 0.0}
ROWS: dict[str, dict[str, Any]] = {
    "ST": {"shared": False, **NO_CONTEXT},
    "IMC": {"label": 0.0, "consistency": 1.0, "embedding": "states", **NO_CONTEXT},
    "w/o R": {"inputs": "global", "encoder": "layer", **NO_CONTEXT},
    "w/o T": {"encoder": "layer"},
    "w/o C": NO_CONTEXT,
    "w/o L": CONTEXT_ALONE,
    "Ours+Con": {"consistency": 0.3},
    "Eq. 2": {"inputs": "global", "encoder": "layer", "consistency": 0.3, **NO_CONTEXT},
}
"""of Table 1, and of Figure 1"""
TERMS = {
    "ST": ["label"],
    "IMC": ["consistency"],
    "w/o R": ["label"],
    "w/o T": ["label", "object", "word"],
    "w/o C": ["label"],
    "w/o L": ["object", "word"],
    "Ours+Con": ["label", "object", "word", "consistency"],
    "Eq. 2": ["label", "consistency"],
}


def dataset(objects: int | None = OBJECTS) -> DatasetInfo:
    words = torch.randn(VOCABULARY, 5, generator=torch.Generator().manual_seed(0))
    return DatasetInfo(CLASSES, True, 32, words, {"regions": 6} | ({"objects": objects} if objects else {}))


def config(**options: Any) -> SemanticSharing:
    small = {"text": BiGruWords(hidden=6), "dim": DIM, "layers": 2, "heads": 2, "feedforward": 12, "masked": 0.5}
    return SemanticSharing(**{"image": StoredRegions()} | small | options)


def build(**options: Any) -> SemanticSharingModel:
    """In fp64, in training, without dropout; parameters that begin at zero have values, so that none can hide."""
    torch.manual_seed(0)
    method = config(**options).build(dataset()).double().train()
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for parameter in method.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.5)
    return method


def inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, VOCABULARY, (N, WORDS), generator=generator) * (torch.arange(WORDS) < LENGTHS[:, None])
    regions = Regions(
        torch.randn(N, REGIONS, 6, generator=generator, dtype=torch.float64),
        torch.rand(N, REGIONS, 5, generator=generator, dtype=torch.float64),
        torch.randint(0, OBJECTS, (N, REGIONS), generator=generator),
    )
    return {"image": regions, "text": Tokens(ids, LENGTHS)}


def without_classes() -> dict[str, Any]:
    regions = inputs()["image"]
    everywhere = torch.ones(N, REGIONS, dtype=torch.bool)
    return inputs() | {"image": CachedFeatures(TokenFeatures(regions.features, everywhere, regions.boxes, None))}


class Watched:
    """A step of a method, with the masks that it drew, and what went into its encoder and came out, by modality."""

    def __init__(self, method: SemanticSharingModel, given: dict[str, Any]) -> None:
        draw, masks, entered, left = method._draw, [], [], []

        def note_mask(real: Tensor) -> Tensor:
            masks.append(draw(real))
            return masks[-1]

        def note_states(_module: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
            entered.append(args[0].detach())
            left.append(getattr(output, "last_hidden_state", output).detach())

        handle = method.encoder.register_forward_hook(note_states)
        method._draw = note_mask
        try:
            torch.manual_seed(3)
            self.representations = method.represent(given)
        finally:
            handle.remove()
            method._draw = draw
        self.masks, self.entered, self.left = (dict(zip(("image", "text"), each)) for each in (masks, entered, left))

    def terms(self, method: SemanticSharingModel) -> dict[str, Tensor]:
        return method.objective(self.representations, LABELS.double(), StepContext())


def apply(layer: nn.Linear, row: Tensor) -> Tensor:
    return torch.stack([sum(w * x for w, x in zip(weights, row)) for weights in layer.weight]) + layer.bias


def sinusoid(number: int) -> Tensor:
    angles = [number / 10_000 ** (2 * (column // 2) / DIM) for column in range(DIM)]
    values = [math.cos(angle) if column % 2 else math.sin(angle) for column, angle in enumerate(angles)]
    return torch.tensor(values, dtype=torch.float64)


def entrance(method: SemanticSharingModel, name: str, row: Tensor, place: Tensor, number: int) -> Tensor:
    """e = phi(psi_1(v) + psi_2(l)) (Eq. 3) of one region or word; without l in the released code."""
    features = apply(method.entrance[name], row)
    if method.config.released:
        return features
    if name == "text":
        place = sinusoid(number) if method.config.positions == "sinusoids" else torch.tensor([number / 100]).double()
    together = features + apply(method.places[name], place)
    return together / 2 if method.config.phi == "half" else apply(method.phi, together).clamp(min=0)


def final_state(method: SemanticSharingModel, row: Tensor) -> Tensor:
    """ReLU of layer normalisation."""
    scaled = (row - row.mean()) / (((row - row.mean()) ** 2).mean() + 1e-5).sqrt()
    return (scaled * method.norm.weight + method.norm.bias).clamp(min=0)


def class_scores(method: SemanticSharingModel, state: Tensor) -> list[float]:
    logits = apply(method.label_head, state).tolist()
    if method.config.scores == "softmax":
        return [math.exp(x) / sum(math.exp(y) for y in logits) for x in logits]
    sigmoids = [1 / (1 + math.exp(-x)) for x in logits]
    return [s / math.hypot(*sigmoids) for s in sigmoids]


def surprise(method: SemanticSharingModel, head: nn.Linear, state: Tensor, target: int) -> float:
    """-log P of what is under a mask."""
    logits = apply(head, state).tolist()
    if method.config.released:
        logits = [1 / (1 + math.exp(-x)) for x in logits]
    return -math.log(math.exp(logits[target]) / sum(math.exp(x) for x in logits))


@torch.no_grad()
def reference(method: SemanticSharingModel, given: dict[str, Any], seen: Watched) -> dict[str, float]:
    """Eq. 4 to 6 from the encoder's states, after what went into the encoder was compared with Eq. 3."""
    released, label, losses = method.config.released, [], {}
    for name, targets in (("image", given["image"].classes), ("text", given["text"].ids)):
        masked, length = seen.masks[name], (WORDS if name == "text" else REGIONS)
        losses[name] = []
        for i in range(N):
            real = range(length) if name == "image" else range(int(LENGTHS[i]))
            scores = []
            for t in range(length):
                if name == "image":
                    row = given["image"].features[i, t]
                    row = method.region_mask if masked[i, t] and not released else row
                    place = given["image"].boxes[i, t]
                else:
                    row, place = words(method, given["text"], masked)[i, t], torch.empty(0)
                expected = entrance(method, name, row, place, t)
                torch.testing.assert_close(seen.entered[name][i, t], expected, rtol=1e-6, atol=1e-6)
                state = final_state(method, seen.left[name][i, t])
                if t in real or released:
                    scores.append(class_scores(method, state))
                if masked[i, t]:
                    assert t in real
                    losses[name].append(surprise(method, method.context_heads[name], state, int(targets[i, t])))
            pooled = [sum(column) / len(scores) for column in zip(*scores)]
            label.append(math.log(1 + math.exp(-sum(s * y for s, y in zip(pooled, LABELS[i].tolist())))))
    terms = {
        "label": sum(label) / len(label),
        "object": sum(losses["image"]) / len(losses["image"]),
        "word": sum(losses["text"]) / len(losses["text"]),
    }
    return terms | {"total": terms["label"] + method.config.context * (terms["object"] + terms["word"])}


def words(method: SemanticSharingModel, tokens: Tokens, masked: Tensor) -> Tensor:
    """The words' rows, which no masked word has a part in."""
    if method.config.released:
        ids = torch.tensor(
            [[UNKNOWN if hidden else word for hidden, word in zip(*each)] for each in zip(masked, tokens.ids)]
        )
        return method.towers["text"](Tokens(ids, tokens.lengths)).features
    return method.towers["text"](tokens, masked).features


@pytest.mark.parametrize("name", OPTIONS)
def test_terms_and_total_are_those_of_the_papers_equations(name: str) -> None:
    method, given = build(**OPTIONS[name]), inputs()
    seen = Watched(method, given)
    terms = seen.terms(method)
    assert {term: value.item() for term, value in terms.items()} == pytest.approx(
        reference(method, given, seen), rel=1e-6
    )


# ---- the rows of Table 1


@pytest.mark.parametrize("given", ["classes", "no classes"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_terms_that_it_names_and_trains_what_they_reach(name: str, given: str) -> None:
    method = build(**ROWS[name])
    seen = inputs() if given == "classes" else without_classes()
    terms = method.objective(method.represent(seen), LABELS.double(), StepContext())
    assert [*terms] == [*TERMS[name], "total"]
    weights = {"label": 1.0, "object": method.config.context, "word": method.config.context}
    weights["consistency"] = method.config.consistency
    expected = sum(weights[term] * terms[term].item() for term in TERMS[name])
    assert terms["total"].item() == pytest.approx(expected, rel=1e-9)
    terms["total"].backward()
    (stage,) = method.stages
    found = {each for each, parameter in method.named_parameters() if parameter.grad is not None}
    trained = {each for each, _ in method.named_parameters() if stage.is_trained(each)}
    assert found == trained
    assert ("label_head.weight" in trained) == ("label" in TERMS[name] and method.config.shared)
    assert any(each.startswith("context_heads") for each in trained) == ("word" in TERMS[name])


@pytest.mark.parametrize("options", [CONTEXT_ALONE, {"label": 2.5}, {"context": 0.0}], ids=str)
def test_terms_of_weight_0_are_no_part_of_the_loss(options: dict[str, Any]) -> None:
    method, given = build(**options), inputs()
    seen = Watched(method, given)
    terms, config = reference(method, given, seen), method.config
    weights = {"label": config.label, "object": config.context, "word": config.context}
    expected = {name: terms[name] for name, weight in weights.items() if weight}
    expected["total"] = sum(weight * terms[name] for name, weight in weights.items())
    found = {name: value.item() for name, value in seen.terms(method).items()}
    assert found == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def mean_states(method: SemanticSharingModel, seen: Watched) -> dict[str, list[Tensor]]:
    """z of each sample: the mean over its regions, or over its words without padding."""
    lengths = {"image": [REGIONS] * N, "text": LENGTHS.tolist()}
    return {
        name: [
            torch.stack([final_state(method, seen.left[name][i, t]) for t in range(length)]).mean(0)
            for i, length in enumerate(lengths[name])
        ]
        for name in seen.left
    }


@pytest.mark.parametrize("options", [ROWS["IMC"], ROWS["Ours+Con"]], ids=["IMC", "Ours+Con"])
def test_the_consistency_equals_loops_over_pairs_of_samples(options: dict[str, Any]) -> None:
    """Eq. 1 over the number of pairs."""
    method = build(**options)
    seen = Watched(method, inputs())
    z, expected = mean_states(method, seen), 0.0
    for one, other in (("image", "text"), ("image", "image"), ("text", "text")):
        for i in range(N):
            for j in range(N):
                a, b = z[one][i], z[other][j]
                theta = float(a @ b / max(float(a.norm() * b.norm()), 1e-6)) / 2
                together = bool((LABELS[i] * LABELS[j]).any())
                expected += (math.log(1 + math.exp(theta)) - together * theta) / N**2
    assert seen.terms(method)["consistency"].item() == pytest.approx(expected, rel=1e-6)


def test_the_mean_of_the_states_is_the_embedding_where_it_is_asked_for() -> None:
    method = build(embedding="states").eval()
    seen = Watched(method, inputs())
    expected = mean_states(method, seen)
    for name, given in inputs().items():
        torch.testing.assert_close(method.embed(name, given), torch.stack(expected[name]), rtol=1e-6, atol=1e-6)
    assert method.embed("text", inputs()["text"]).shape == (N, DIM)
    assert build().eval().embed("text", inputs()["text"]).shape == (N, CLASSES)


def test_a_layer_in_place_of_attention_sees_each_place_by_itself() -> None:
    method = build(encoder="layer")
    seen = Watched(method, inputs())
    terms = {term: value.item() for term, value in seen.terms(method).items()}
    assert terms == pytest.approx(reference(method, inputs(), seen), rel=1e-6)
    for name, states in seen.entered.items():
        for i in range(N):
            for t in range(states.shape[1]):
                torch.testing.assert_close(seen.left[name][i, t], apply(method.encoder, states[i, t]))


def test_a_global_input_is_the_mean_of_the_regions_or_words_without_position_or_mask() -> None:
    method, given = build(**ROWS["w/o R"]), inputs()
    words_of = method.towers["text"](given["text"]).features
    for name, rows, lengths in (
        ("image", given["image"].features, [REGIONS] * N),
        ("text", words_of, LENGTHS.tolist()),
    ):
        for i, length in enumerate(lengths):
            mean = rows[i, :length].mean(0)
            state = final_state(method, apply(method.encoder, apply(method.entrance[name], mean)))
            expected = torch.tensor(class_scores(method, state), dtype=torch.float64)
            for found in (method.embed(name, given[name])[i], method.represent(given)[f"{name} scores"][i]):
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert not hasattr(method, "places") and not hasattr(method, "region_mask")


def test_separate_models_with_the_same_weights_have_the_terms_of_a_shared_one_and_gradients_of_their_own() -> None:
    shared, apart = build(phi="layer"), build(phi="layer", shared=False)
    parts = ("phi", "encoder", "norm", "label_head")
    state = {}
    for name, value in shared.state_dict().items():
        part, _, rest = name.partition(".")
        names = [f"{part}.{each}.{rest}" for each in ("image", "text")] if part in parts else [name]
        state |= dict.fromkeys(names, value)
    apart.load_state_dict(state)
    found = []
    for method in (shared, apart):
        torch.manual_seed(3)
        terms = method.objective(method.represent(inputs()), LABELS.double(), StepContext())
        terms["total"].backward()
        found.append({name: value.item() for name, value in terms.items()})
    assert found[1] == pytest.approx(found[0], rel=1e-12)
    own = dict(apart.named_parameters())
    for name, parameter in shared.named_parameters():
        part, _, rest = name.partition(".")
        if part in parts:
            one, other = (own[f"{part}.{each}.{rest}"].grad for each in ("image", "text"))
            torch.testing.assert_close(one + other, parameter.grad)
    assert own["label_head.image.weight"].grad.any() and own["label_head.text.weight"].grad.any()


def test_separate_models_learn_from_their_own_modality_alone() -> None:
    method = build(shared=False)
    terms = method.objective(method.represent(inputs()), LABELS.double(), StepContext())
    assert not [name for name in reached(method, terms["object"]) if ".text." in name]
    assert not [name for name in reached(method, terms["word"]) if ".image." in name or name == "region_mask"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": 0.0}, r"--method.label 0 teaches no label scores .*: set --method.embedding states"),
        ({"inputs": "global"}, r"--method.inputs global leaves no regions and words .*: set --method.context 0"),
        ({"inputs": "global", "phi": "layer", "context": 0.0}, r"--method.inputs global has no positions"),
        ({"label": 0.0, "context": 0.0}, r"--method.label, --method.context, --method.consistency: all are 0"),
    ],
    ids=str,
)
def test_what_would_teach_or_mean_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(XmrError, match=message):
        config(**options).build(dataset())


@pytest.mark.parametrize("name", ["default", "released", "as printed"])
def test_padding_is_attended_to_in_the_released_code_only(name: str) -> None:
    method, given = build(**OPTIONS[name]).eval(), inputs()
    longer = Tokens(torch.cat([given["text"].ids, torch.zeros(N, 3, dtype=torch.long)], dim=1), LENGTHS)
    with torch.no_grad():
        same = torch.allclose(method.embed("text", given["text"]), method.embed("text", longer))
    assert same == (name != "released")


@pytest.mark.parametrize("released", [False, True])
def test_what_is_to_be_predicted_are_the_words_that_were_there(released: bool) -> None:
    method, given = build(released=released), inputs()
    sequence, masked = method._masked_features("text", given["text"])
    assert masked.any()
    assert torch.equal(sequence.targets, given["text"].ids)


def learned(method: SemanticSharingModel, texts: Callable[[], Tensor]) -> tuple[float, float]:
    """The word loss of the first steps of a short training, and of its last ones."""
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    values = []
    for _ in range(100):
        ids = texts()
        losses = method.represent({"text": Tokens(ids, torch.full((len(ids),), ids.shape[1]))})
        loss = losses["text context"].sum() / losses["text masked"].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return sum(values[:3]) / 3, sum(values[-10:]) / 10


@pytest.mark.slow
@pytest.mark.parametrize("released", [False, True])
def test_words_that_their_neighbours_tell_are_learned_and_words_by_chance_are_not(released: bool) -> None:
    """Each word is followed by the next of the vocabulary. As a control, words of which nothing tells: a loss that fell
    on these, too, would not be of the words that were there."""
    kinds = VOCABULARY - 2

    def chain() -> Tensor:
        return 2 + (torch.randint(kinds, (32, 1)) + torch.arange(WORDS)) % kinds

    def chance() -> Tensor:
        return 2 + torch.randint(kinds, (32, WORDS))

    # The sigmoid keeps a word's probability below e / (e + v - 1).
    least = math.log((math.e + VOCABULARY - 1) / math.e) if released else 0.0
    for texts, falls in ((chain, True), (chance, False)):
        torch.manual_seed(0)
        wide = {"text": BiGruWords(hidden=32), "dim": 32, "feedforward": 32, "layers": 1}
        method = config(released=released, masked=0.2, **wide).build(dataset()).train()
        first, last = learned(method, texts)
        gap = math.log(kinds) - least
        assert first > least + 0.8 * gap
        assert last < least + 0.7 * gap if falls else last > least + 0.9 * gap


def reached(method: SemanticSharingModel, term: Tensor) -> set[str]:
    """The parameters with a gradient of the term that is not zero."""
    named = dict(method.named_parameters())
    gradients = torch.autograd.grad(term, list(named.values()), allow_unused=True, retain_graph=True)
    return {name for name, gradient in zip(named, gradients) if gradient is not None and gradient.any()}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_term_teaches_its_own_heads_and_the_shared_encoder(name: str) -> None:
    method = build(**OPTIONS[name])
    terms = Watched(method, inputs()).terms(method)
    shared = {each for each, _ in method.named_parameters() if each.startswith(("encoder.layer", "norm.", "phi."))}
    # A softmax over keys does not see what is added to all of them.
    shared -= {each for each in shared if each.endswith("key.bias")}
    own = {
        modality: {
            each
            for each, _ in method.named_parameters()
            if each.startswith((f"entrance.{modality}.", f"places.{modality}.", f"towers.{modality}."))
            or (each == "region_mask" and modality == "image")
        }
        for modality in ("image", "text")
    }
    if method.config.released:
        own["text"].remove("towers.text.mask")
    heads = {modality: {f"context_heads.{modality}.{part}" for part in ("weight", "bias")} for modality in own}
    label_head = {"label_head.weight", "label_head.bias"}
    found = {
        term: {each for each in reached(method, value) if not each.endswith("key.bias")}
        for term, value in terms.items()
    }
    assert found["label"] == shared | own["image"] | own["text"] | label_head
    assert found["object"] == shared | own["image"] | heads["image"]
    assert found["word"] == shared | own["text"] | heads["text"]
    assert found["total"] == found["label"] | found["object"] | found["word"]


def test_regions_are_masked_where_classes_are_known_and_only_in_training() -> None:
    method = build()
    found = method.represent(inputs())
    assert found["image masked"].sum() > 0 and found["text masked"].sum() > 0
    found = method.represent(without_classes())
    assert found["image masked"].sum() == 0 and found["text masked"].sum() > 0
    found = method.eval().represent(inputs())
    assert found["image masked"].sum() == 0 and found["text masked"].sum() == 0


def test_without_classes_the_head_of_objects_takes_part_with_a_gradient_of_zero() -> None:
    """DistributedDataParallel waits for the gradient of each parameter."""
    method = build()
    terms = method.objective(method.represent(without_classes()), LABELS.double(), StepContext())
    assert terms["object"].item() == 0
    assert terms["total"].item() == pytest.approx((terms["label"] + 0.1 * terms["word"]).item())
    terms["total"].backward()
    for parameter in method.context_heads["image"].parameters():
        assert parameter.grad is not None and not parameter.grad.any()


def test_masks_fall_on_the_asked_share_of_real_places() -> None:
    method = build(masked=0.15)
    tokens = Tokens(torch.full((400, 20), 2), torch.full((400,), 10))
    _, masked = method._masked_features("text", tokens)
    assert not masked[:, 10:].any()
    assert masked[:, :10].double().mean().item() == pytest.approx(0.15, abs=0.02)


def test_the_head_of_objects_follows_the_detector() -> None:
    def outputs(classes: int | None, **options: Any) -> int:
        return config(**options).build(dataset(classes)).context_heads["image"].out_features

    assert outputs(1601) == 1601
    assert outputs(1601, objects=2000) == 2000
    assert outputs(None) == 91  # COCO's
    cells = GridRegions("resnet10_slim", "none", cells=2)  # whatever regions are stored beside the pictures
    assert outputs(1601, image=cells) == outputs(1601, image=cells, objects=91) == 91
    with pytest.raises(XmrError, match=r"--method.objects 91 is less than the 1601 classes of the detector"):
        outputs(1601, objects=91)


@pytest.mark.parametrize("id", [OBJECTS, -1])
def test_a_class_id_that_the_head_does_not_have_names_the_option(id: int) -> None:
    method, given = build(), inputs()
    given["image"].classes[2, 3] = id
    with pytest.raises(
        XmrError, match=rf"class id is {id}, and --method.objects is {OBJECTS} \(ids 0 to {OBJECTS - 1}\)"
    ):
        method.represent(given)


@pytest.mark.parametrize("options", [{"positions": "sinusoids"}, {"phi": "layer"}])
def test_the_released_code_has_no_positions_to_choose(options: dict[str, Any]) -> None:
    with pytest.raises(XmrError, match=r"--method.released has no positions"):
        config(released=True, **options).build(dataset())


def test_the_defaults_are_the_supplements() -> None:
    default = SemanticSharing()
    assert (default.context, default.masked, default.layers, default.dim, default.heads) == (0.1, 0.15, 6, 1024, 8)
    assert (default.scores, default.positions, default.phi, default.objects) == ("sigmoid", "number", "half", None)
    assert (default.label, default.consistency, default.inputs, default.encoder) == (1.0, 0.0, "segments", "attention")
    assert (default.shared, default.embedding) == (True, "scores")


def test_what_stands_under_masks_begins_as_an_average() -> None:
    """Of regions, which have no fixed mean, as zero; of words as the mean of their vectors."""
    method = config().build(dataset())
    assert not method.region_mask.any()
    vectors = method.towers["text"].words.weight[1:]  # type: ignore[union-attr, index]
    torch.testing.assert_close(method.towers["text"].mask, vectors.mean(dim=0))
