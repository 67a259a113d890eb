"""Pretrained transformers as towers, on tiny models with random weights: their own outputs, sizes, padding, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers import PreTrainedModel

from tests.helpers.made_transformers import OPT, VISION, dinov2
from tests.helpers.pretrained_towers import (
    TEXT,
    Save,
    bert,
    clip,
    dataset,
    normalized,
    padded,
    photos,
    save,
    siglip,
    vit,
)
from tests.helpers.references import as_if_fitted
from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.cca import Cca
from xmr_e2e.models.rebuild import rebuild
from xmr_e2e.towers.architecture import read_architecture, to_json
from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision

__all__ = ["save"]  # a fixture

TEXTS = [[2, 7, 8, 9, 3], [2, 0, 11, 3], [2, 40, 41, 42, 43, 44, 45, 3]]


def vit_classifier() -> PreTrainedModel:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VISION))


def resnet() -> PreTrainedModel:
    return transformers.ResNetModel(transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))


def roberta() -> PreTrainedModel:
    return transformers.RobertaForMaskedLM(transformers.RobertaConfig(**TEXT))


def _blip2() -> transformers.Blip2Config:
    qformer = {**TEXT, "encoder_hidden_size": 24, "use_qformer_text_input": True}
    language = {**OPT, "vocab_size": 50, "word_embed_proj_dim": 16}
    parts: dict[str, Any] = {"vision_config": VISION, "qformer_config": qformer, "text_config": language}
    return transformers.Blip2Config(**parts, num_query_tokens=4, image_text_hidden_size=8)


def blip2() -> PreTrainedModel:
    return transformers.Blip2ForImageTextRetrieval(_blip2())


def blip2_captions() -> PreTrainedModel:
    return transformers.Blip2ForConditionalGeneration(_blip2())


def trained_parameters(tower: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in tower.named_parameters() if parameter.requires_grad}


CLIP_STATISTICS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "statistics", "output"),
    [
        (clip, CLIP_STATISTICS, lambda m, x: m.vision_model(x).pooler_output),
        (siglip, HALVES, lambda m, x: m.vision_model(x).pooler_output),
        (blip2, CLIP_STATISTICS, lambda m, x: m.vision_model(x).pooler_output),
        (blip2_captions, CLIP_STATISTICS, lambda m, x: m.vision_model(x).pooler_output),
        (vit, HALVES, lambda m, x: m(x).last_hidden_state[:, 0]),
        (vit_classifier, HALVES, lambda m, x: m.vit(x).last_hidden_state[:, 0]),
        (dinov2, (IMAGENET_MEAN, IMAGENET_STD), lambda m, x: m(x).last_hidden_state[:, 0]),
        (resnet, (IMAGENET_MEAN, IMAGENET_STD), lambda m, x: m(x).last_hidden_state.mean(dim=(2, 3))),
    ],
)
def test_a_vision_tower_is_the_models_own_output_on_its_own_statistics(
    save: Save, make: Callable[[], PreTrainedModel], statistics: Any, output: Any
) -> None:
    folder, model = save(make)
    tower = PretrainedVision(folder, projected=False).build(dataset(), "image").eval()
    expected = output(model, normalized(photos(3), *statistics))
    torch.testing.assert_close(tower(normalized(photos(3))), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (3, tower.dim)
    assert expected.std(dim=0).max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("make", [clip, siglip, blip2])
def test_an_image_and_a_text_of_one_model_land_where_it_compares_them(
    save: Save, make: Callable[[], PreTrainedModel]
) -> None:
    folder, model = save(make)
    image = PretrainedVision(folder).build(dataset(), "image").eval()
    text = PretrainedText(folder).build(dataset(), "text").eval()
    assert image.dim == text.dim == {clip: 8, siglip: 24, blip2: 8}[make]
    statistics = HALVES if make is siglip else CLIP_STATISTICS
    longest = 20 if make is siglip else 9  # SigLIP reads texts that are filled up with its token for padding
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in TEXTS])
    mask = None if make is siglip else (torch.arange(longest) < torch.tensor([[len(row)] for row in TEXTS])).long()
    whole = model(pixel_values=normalized(photos(3), *statistics), input_ids=ids, attention_mask=mask)
    if make is blip2:  # each query's embedding has length 1
        expected = whole.image_embeds.sum(dim=1) / whole.image_embeds.sum(dim=1).norm(dim=1, keepdim=True)
        assert whole.image_embeds.shape == (3, 4, 8)
        torch.testing.assert_close(image(normalized(photos(3))), expected, rtol=1e-4, atol=1e-5)
    images, texts = image(normalized(photos(3))), text(padded(TEXTS, 9))
    torch.testing.assert_close(torch.nn.functional.normalize(texts), whole.text_embeds, rtol=1e-4, atol=1e-5)
    if make is not blip2:
        torch.testing.assert_close(torch.nn.functional.normalize(images), whole.image_embeds, rtol=1e-4, atol=1e-5)
    assert images.std(dim=0).max() > 1e-3


@torch.no_grad()
def test_clips_embeddings_are_its_own_features_before_they_are_brought_to_length_1(save: Save) -> None:
    folder, model = save(clip)
    image = PretrainedVision(folder).build(dataset(), "image").eval()
    text = PretrainedText(folder).build(dataset(), "text").eval()
    pooled = model.vision_model(normalized(photos(2), *CLIP_STATISTICS)).pooler_output
    expected = model.visual_projection(pooled)
    torch.testing.assert_close(image(normalized(photos(2))), expected, rtol=1e-4, atol=1e-5)
    pooled = model.text_model(torch.tensor([TEXTS[0]])).pooler_output
    torch.testing.assert_close(text(padded(TEXTS[:1], 9)), model.text_projection(pooled), rtol=1e-4, atol=1e-5)


def test_a_model_that_never_compared_images_with_texts_names_the_way_out(save: Save) -> None:
    folder, _ = save(blip2_captions)
    with pytest.raises(XmrError, match=r"was not trained to compare images with texts.*projected=False"):
        PretrainedVision(folder).build(dataset(), "image")


@pytest.mark.parametrize("make", [clip, siglip, blip2])
@pytest.mark.parametrize("projected", [True, False])
def test_both_towers_of_a_saved_model_are_built_again(
    save: Save, make: Callable[[], PreTrainedModel], projected: bool, tmp_path: Path
) -> None:
    folder, _ = save(make)
    config = Cca(
        image=PretrainedVision(folder, projected=projected), text=PretrainedText(folder, projected=projected), dim=4
    )
    method = as_if_fitted(config.build(dataset())).eval()
    weights, description = tmp_path / "model.safetensors", tmp_path / "model.json"
    save_file({name: tensor.contiguous().clone() for name, tensor in method.state_dict().items()}, weights)
    architectures = {}
    for name in ("image", "text"):
        path = tmp_path / f"{name}.json"
        path.write_bytes(to_json(method.towers[name].architecture))
        architectures[name] = read_architecture(path)
    found = from_document(Cca, to_document(config), "model.json")
    again = rebuild(found, replace(dataset(), architectures=architectures), weights, description).eval()
    with torch.no_grad():
        images = normalized(photos(2))
        assert torch.equal(again.towers["image"](images), method.towers["image"](images))
        assert torch.equal(again.towers["text"](padded(TEXTS, 9)), method.towers["text"](padded(TEXTS, 9)))


def test_what_was_saved_before_there_was_a_choice_stays_unprojected() -> None:
    towers: tuple[Any, ...] = PretrainedVision, PretrainedText
    for tower in towers:
        document = to_document(tower("someone/clip"))
        assert document.pop("projected") is True
        assert from_document(tower, document, "model.json").projected is False
        assert from_document(tower, {**document, "projected": True}, "model.json").projected is True


@pytest.mark.parametrize("make", [clip, siglip, blip2, vit, dinov2])
def test_position_embeddings_are_interpolated_for_other_sizes(save: Save, make: Callable[[], PreTrainedModel]) -> None:
    folder, _ = save(make)
    small, large = (PretrainedVision(folder).build(dataset(size), "image").eval() for size in (32, 48))
    # A picture that is the same at each place: the size matters by the positions alone, and those are interpolated.
    grey = [normalized(torch.full((1, 3, size, size), 0.3)) for size in (32, 48)]
    one, other = small(grey[0])[0], large(grey[1])[0]
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.9
    assert not torch.equal(one, other)
    assert large(normalized(photos(2, 48))).shape == (2, large.dim)


def test_the_file_beside_the_model_tells_its_statistics(save: Save, tmp_path: Path) -> None:
    folder, model = save(clip)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    transformers.CLIPImageProcessor(image_mean=list(mean), image_std=list(std)).save_pretrained(folder)
    tower = PretrainedVision(folder).build(dataset(), "image").eval()
    expected = model.visual_projection(model.vision_model(normalized(photos(2), mean, std)).pooler_output)
    torch.testing.assert_close(tower(normalized(photos(2))), expected, rtol=1e-4, atol=1e-5)
    # They come back with the weights, wherever the file is by then.
    (Path(folder) / "preprocessor_config.json").unlink()
    restored = PretrainedVision(folder, "none").build(dataset(), "image").eval()
    restored.load_state_dict(tower.state_dict())
    assert torch.equal(restored(normalized(photos(2))), tower(normalized(photos(2))))


@torch.no_grad()
def test_clips_text_tower_can_be_its_pooled_output(save: Save) -> None:
    folder, model = save(clip)
    tower = PretrainedText(folder, projected=False).build(dataset(), "text").eval()
    for text, row in zip(TEXTS, tower(padded(TEXTS, 9)), strict=True):
        torch.testing.assert_close(row, model.text_model(torch.tensor([text])).pooler_output[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_blip2s_text_tower_is_its_projected_first_token(save: Save) -> None:
    folder, model = save(blip2)
    tower = PretrainedText(folder).build(dataset(), "text").eval()
    assert tower.dim == 8
    text = torch.tensor([TEXTS[0]])
    states = model.qformer(query_embeds=model.embeddings(input_ids=text), query_length=0).last_hidden_state
    expected = torch.nn.functional.normalize(model.text_projection(states[:, 0]), dim=1)
    torch.testing.assert_close(tower(padded(TEXTS[:1], 9)), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("make", [bert, roberta])
def test_berts_text_tower_is_the_mean_over_the_tokens(save: Save, make: Callable[[], PreTrainedModel]) -> None:
    folder, model = save(make)
    tower = PretrainedText(folder).build(dataset(), "text").eval()
    base: Any = getattr(model, "roberta", model)
    for text, row in zip(TEXTS, tower(padded(TEXTS, 9)), strict=True):
        states = base(torch.tensor([text])).last_hidden_state[0]
        torch.testing.assert_close(row, sum(states) / len(text), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [clip, siglip, bert, roberta, blip2])
def test_a_text_is_embedded_alike_whatever_padding_and_company_it_has(
    save: Save, make: Callable[[], PreTrainedModel]
) -> None:
    tower = PretrainedText(save(make)[0]).build(dataset(), "text").eval()
    alone = torch.cat([tower(padded([text], len(text))) for text in TEXTS])
    assert alone.shape == (3, tower.dim)
    for length in (8, 15):
        torch.testing.assert_close(tower(padded(TEXTS, length)), alone, rtol=1e-4, atol=1e-5)
    changed = tower(padded([[2, 7, 30, 9, 3], *TEXTS[1:]], 8))
    assert not torch.allclose(changed[0], alone[0], atol=1e-3)
    torch.testing.assert_close(changed[1:], alone[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [clip, siglip, blip2, vit, dinov2, resnet])
def test_gradients_reach_the_pixels_and_every_trained_parameter(
    save: Save, make: Callable[[], PreTrainedModel]
) -> None:
    tower = PretrainedVision(save(make)[0]).build(dataset(), "image").train()
    images = normalized(photos(2)).requires_grad_()
    output = tower(images)
    (output * torch.randn_like(output)).sum().backward()
    assert images.grad is not None and images.grad.abs().max() > 0
    trained = trained_parameters(tower)
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    assert any("embed" in name and p.grad is not None and p.grad.abs().max() > 0 for name, p in trained.items())


@pytest.mark.parametrize("make", [clip, siglip, blip2, bert])
def test_gradients_reach_the_token_embeddings(save: Save, make: Callable[[], PreTrainedModel]) -> None:
    tower: Any = PretrainedText(save(make)[0]).build(dataset(), "text").train()
    output = tower(padded(TEXTS, 9))
    (output * torch.randn_like(output)).sum().backward()
    gradient = tower.network.get_input_embeddings().weight.grad
    assert gradient[7].abs().max() > 0
    assert not gradient[30].any()
    trained = trained_parameters(tower)
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []


def test_random_weights_are_drawn_anew(save: Save) -> None:
    folder, _ = save(clip)
    towers: tuple[Any, ...] = PretrainedVision, PretrainedText
    for tower in towers:
        pretrained, random = (
            tower(folder, weights).build(dataset(), "any").state_dict() for weights in ("pretrained", "none")
        )
        assert {name: value.shape for name, value in random.items()} == {
            name: value.shape for name, value in pretrained.items()
        }
        weights = [name for name in random if name.endswith("weight") and "norm" not in name]
        assert not any(torch.equal(random[name], pretrained[name]) for name in weights)


def test_a_model_that_cannot_be_had_names_the_ways_out(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    ways = r"Hugging Face hub.* downloaded before.* folder with its config.json and model.safetensors"
    with pytest.raises(XmrError, match=rf"(?s)--method.image.name no-such/model: .*{ways}"):
        PretrainedVision("no-such/model").build(dataset(), "image")
    folder, _ = save(bert)
    (Path(folder) / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(XmrError, match=rf"(?s)--method.text.name {folder}: .*{ways}"):
        PretrainedText(folder).build(dataset(), "text")
    (Path(folder) / "model.safetensors").unlink()
    with pytest.raises(XmrError, match=rf"(?s)--method.text.name {folder}: .*{ways}"):
        PretrainedText(folder).build(dataset(), "text")
    assert PretrainedText(folder, "none").build(dataset(), "text").dim == 16


def test_a_checkpoint_that_lacks_parameters_is_refused(save: Save) -> None:
    folder, _ = save(blip2_captions)  # its Q-Former has learned no words
    with pytest.raises(XmrError, match=r"parameters are missing there, such as embeddings"):
        PretrainedText(folder).build(dataset(), "text")


def test_a_model_of_the_other_modality_is_refused(save: Save) -> None:
    with pytest.raises(XmrError, match="a BertModel does not read images"):
        PretrainedVision(save(bert)[0]).build(dataset(), "image")
    with pytest.raises(XmrError, match="a ViTModel does not read texts"):
        PretrainedText(save(vit)[0]).build(dataset(), "text")


def test_images_of_an_impossible_size_are_refused(save: Save) -> None:
    with pytest.raises(XmrError, match="cannot take images of 5 pixels"):
        PretrainedVision(save(vit)[0]).build(dataset(5), "image")


def test_tokens_that_are_not_the_models_own_are_refused(save: Save) -> None:
    folder, _ = save(bert)
    with pytest.raises(XmrError, match=rf"--data.tokens.kind transformers and --data.tokens.name {folder}"):
        PretrainedText(folder).build(dataset(width=100), "text")
    with pytest.raises(XmrError, match=r"knows 50 tokens, and the tokeniser has 150"):
        PretrainedText(folder).build(dataset(tokens=150), "text")


def test_a_few_tokens_that_the_model_does_not_know_do_no_harm(save: Save) -> None:
    tower = PretrainedText(save(bert)[0]).build(dataset(tokens=52), "text").eval()
    assert torch.equal(tower(padded([[2, 51, 3]], 3)), tower(padded([[2, 49, 3]], 3)))


def test_texts_beyond_the_models_positions_are_refused(save: Save) -> None:
    tower = PretrainedText(save(bert)[0]).build(dataset(), "text")
    with pytest.raises(XmrError, match=r"a text has 21 tokens and the model reads 20: set --data.max-tokens 20"):
        tower(padded([[5] * 21], 21))
