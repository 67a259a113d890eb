"""Text towers: values by loops, independence of padding, masks, gradients that reach the word vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xmr_e2e.data.inputs import Tokens
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.text import BiGru, BiGruWords, BiLstmCnn, MeanWords, TextCnn

WORDS = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
TEXTS = [[3, 4, 5, 6, 7, 8, 9], [10, 11], [12], [13, 14, 15], [1, 1, 2, 29]]
POOLED = [
    BiLstmCnn(hidden=5, kernels=11, dropout=0.0),
    *(BiLstmCnn(hidden=5, kernels=11, width=width, dropout=0.0) for width in (1, 2, 9)),
    TextCnn(kernels=4, dropout=0.0),
    TextCnn(widths=(1, 9), kernels=3, dropout=0.0),
    BiGru(hidden=5),
    BiGru(hidden=5, pooling="max"),
    BiGru(hidden=5, pooling="max", directions="concatenate"),
    MeanWords(),
    MeanWords(weighting="idf"),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(tower: TowerConfig, words: Tensor = WORDS) -> Any:
    dataset = DatasetInfo(
        classes=5, multi_label=False, image_size=224, words=words, idf=1 + torch.arange(len(words)) / 7
    )
    return tower.build(dataset, "text")


def padded(texts: list[list[int]], to: int) -> Tokens:
    rows = [text + [0] * (to - len(text)) for text in texts]
    return Tokens(torch.tensor(rows), torch.tensor([len(text) for text in texts]))


@pytest.mark.parametrize("tower", POOLED, ids=str)
def test_a_text_is_embedded_alike_whatever_padding_and_company_it_has(tower: TowerConfig) -> None:
    network = build(tower)
    alone = torch.cat([network(padded([text], len(text))) for text in TEXTS])
    assert alone.shape == (5, network.dim)
    for length in (7, 8, 20):
        torch.testing.assert_close(network(padded(TEXTS, length)), alone, rtol=1e-5, atol=1e-6)


def test_words_are_embedded_alike_whatever_padding_and_company_they_have() -> None:
    network = build(BiGruWords(hidden=5))
    for length in (7, 12):
        rows, mask, places, targets = network(padded(TEXTS, length))
        assert rows.shape == (5, length, 5)
        assert places.tolist() == [[[float(place)] for place in range(length)]] * 5
        assert torch.equal(targets, padded(TEXTS, length).ids)
        for number, text in enumerate(TEXTS):
            alone = network(padded([text], len(text))).features[0]
            torch.testing.assert_close(rows[number, : len(text)], alone, rtol=1e-5, atol=1e-6)
            assert not rows[number, len(text) :].any()
            assert mask[number].tolist() == [place < len(text) for place in range(length)]


def windows_maximum(rows: Tensor, convolution: nn.Module) -> list[float]:
    """Of each kernel the largest response to any window of rows (t, d), not below zero; by loops."""
    assert isinstance(convolution, nn.Conv1d) and convolution.bias is not None
    result = []
    for kernel, offset in zip(convolution.weight, convolution.bias, strict=True):
        width = kernel.shape[1]
        starts = range(len(rows) - width + 1)
        responses = [sum(float(rows[t + i] @ kernel[:, i]) for i in range(width)) + float(offset) for t in starts]
        result.append(max(0.0, *responses))
    return result


@torch.no_grad()
def test_bilstm_cnn_equals_its_formula_written_with_loops() -> None:
    tower, text = build(BiLstmCnn(hidden=5, kernels=11, dropout=0.0)), TEXTS[0]
    both = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    backwards = {f"{name}_reverse": value for name, value in tower.lstm_backwards.state_dict().items()}
    both.load_state_dict(tower.lstm.state_dict() | backwards)
    states, _ = both(tower.words.weight[torch.tensor(text)][None])
    expected = windows_maximum(states[0], tower.convolution)
    torch.testing.assert_close(tower(padded([text], 12))[0], torch.tensor(expected))
    assert max(expected) > 0


@torch.no_grad()
def test_text_cnn_equals_its_formula_written_with_loops() -> None:
    tower, text = build(TextCnn(kernels=7, dropout=0.0)), TEXTS[0]
    assert [convolution.kernel_size for convolution in tower.convolutions] == [(3,), (4,), (5,)]
    rows = WORDS[torch.tensor(text)]
    expected = [value for convolution in tower.convolutions for value in windows_maximum(rows, convolution)]
    torch.testing.assert_close(tower(padded([text], 12))[0], torch.tensor(expected))
    assert 0.0 in expected and max(expected) > 0


def test_text_cnn_has_sdcmrs_width_by_default() -> None:
    assert build(TextCnn()).dim == 300


@torch.no_grad()
def test_bigru_equals_the_mean_of_both_directions_and_all_words() -> None:
    pooled, words, text = build(BiGru(hidden=5)), build(BiGruWords(hidden=5)), TEXTS[0]
    words.load_state_dict(pooled.state_dict(), strict=False)
    both = nn.GRU(6, 5, batch_first=True, bidirectional=True)
    backwards = {f"{name}_reverse": value for name, value in pooled.gru.backwards.state_dict().items()}
    both.load_state_dict(pooled.gru.forwards.state_dict() | backwards)
    states = both(WORDS[torch.tensor(text)][None])[0][0]
    expected = [[(float(state[i]) + float(state[5 + i])) / 2 for i in range(5)] for state in states]
    torch.testing.assert_close(words(padded([text], 9)).features[0, :7], torch.tensor(expected))
    means = [sum(column) / 7 for column in zip(*expected)]
    torch.testing.assert_close(pooled(padded([text], 9))[0], torch.tensor(means))


def test_nothing_of_a_masked_word_reaches_its_neighbours() -> None:
    network = build(BiGruWords(hidden=5))
    masked = torch.zeros(2, 7, dtype=torch.bool)
    masked[0, 2] = masked[1, 0] = True
    one = network(padded([[3, 4, 5, 6, 7, 8, 9], [10, 11]], 7), masked)
    two = network(padded([[3, 4, 20, 6, 7, 8, 9], [21, 11]], 7), masked)
    assert torch.equal(one.features, two.features)
    assert one.targets[0, 2] == 5 and two.targets[0, 2] == 20
    unmasked = network(padded([[3, 4, 5, 6, 7, 8, 9], [10, 11]], 7))
    assert (
        not torch.isclose(unmasked.features[0], one.features[0]).all(dim=1).any()
    )  # both directions: all words change
    one.features.sum().backward()
    assert network.mask.grad.abs().max() > 0
    assert not network.words.weight.grad[[5, 10]].any()
    assert network.words.weight.grad[[3, 4, 6, 11]].any(dim=1).all()


def test_all_parameters_take_part_without_a_mask_too() -> None:
    network = build(BiGruWords(hidden=5))
    network(padded(TEXTS, 7)).features.sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("tower", [*POOLED[::4], BiGru(hidden=5), BiGruWords(hidden=5)], ids=str)
def test_gradients_reach_the_word_vectors_but_not_the_padding(tower: TowerConfig) -> None:
    network = build(tower)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.8, weight_decay=5e-4)
    before = network.words.weight.detach().clone()
    for _ in range(2):
        optimizer.zero_grad()
        output = network(padded(TEXTS, 9))
        (output.features if isinstance(tower, BiGruWords) else output).sum().backward()
        optimizer.step()
    changed = ((network.words.weight - before).abs() > 1e-2).any(1)
    assert changed[torch.tensor(sorted({word for text in TEXTS for word in text}))].all()
    assert not network.words.weight[0].any()


def test_towers_copy_the_word_vectors_and_empty_the_padding_row() -> None:
    vectors = torch.ones(4, 3)
    tower = build(BiLstmCnn(), vectors)
    assert tower.words.weight.tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
    with torch.no_grad():
        tower.words.weight[2] = 7
    assert torch.equal(vectors, torch.ones(4, 3))
    assert (tower.lstm.hidden_size, tower.lstm_backwards.hidden_size) == (141, 141)


def test_random_word_vectors_are_small_and_fresh() -> None:
    weight = build(BiGruWords(embedding="random")).words.weight
    assert weight.shape == (30, 300)
    assert weight.abs().max() <= 0.1
    assert weight[1:].std().item() == pytest.approx(0.2 / 12**0.5, rel=0.03)
    assert not weight[0].any()


def test_word_towers_ask_for_word_vectors() -> None:
    nothing = torch.zeros(10, 0)
    for tower in (BiLstmCnn(), TextCnn(), BiGru(), BiGruWords()):
        with pytest.raises(XmrError, match=r"--data.tokens.kind words or sentencepiece"):
            build(tower, nothing)
    assert build(BiGruWords(embedding="random"), nothing).words.weight.shape == (10, 300)


@pytest.mark.parametrize("tower", [BiLstmCnn(hidden=5), TextCnn(dropout=0.5)])
def test_dropout_acts_in_training_only(tower: TowerConfig) -> None:
    network, batch = build(tower), padded(TEXTS, 7)
    assert not torch.equal(network.train()(batch), network(batch))
    assert torch.equal(network.eval()(batch), network(batch))


def test_the_sentence_cnn_drops_nothing_unless_asked() -> None:
    assert TextCnn().dropout == 0
    network, batch = build(TextCnn()).train(), padded(TEXTS, 7)
    assert torch.equal(network(batch), network(batch))


@torch.no_grad()
def test_bigru_pools_the_states_of_both_directions_as_it_is_told() -> None:
    text = TEXTS[0]
    for directions, width in (("average", 5), ("concatenate", 10)):
        tower = build(BiGru(hidden=5, pooling="max", directions=directions))  # type: ignore[arg-type]
        assert tower.dim == width
        rows = tower.words(torch.tensor([text]))
        forwards, backwards = tower.gru.forwards(rows)[0][0], tower.gru.backwards(rows.flip(1))[0][0].flip(0)
        states = (forwards + backwards) / 2 if width == 5 else torch.cat([forwards, backwards], dim=1)
        expected = [max(float(state[unit]) for state in states) for unit in range(width)]
        torch.testing.assert_close(tower(padded([text], 12))[0], torch.tensor(expected))


def test_bigru_drops_numbers_of_words_and_output_in_training_only() -> None:
    tower = build(BiGru(hidden=64, dropout=0.5)).train()
    tokens = padded(TEXTS, 7)
    with torch.no_grad():
        zeros = (tower(tokens) == 0).float().mean().item()
        assert zeros == pytest.approx(0.5, abs=0.1)
        assert not torch.equal(tower(tokens), tower(tokens))
        assert torch.equal(tower.eval()(tokens), tower(tokens))


@torch.no_grad()
@pytest.mark.parametrize("weighting", ["uniform", "idf"])
def test_mean_of_words_weighs_them_and_passes_over_unknown_ones(weighting: str) -> None:
    tower = build(MeanWords(weighting=weighting))  # type: ignore[arg-type]
    for text, found in zip(TEXTS, tower(padded(TEXTS, 9))):
        total, weights = torch.zeros(6), 0.0
        for word in text:
            weight = 0.0 if word == 1 else 1.0 if weighting == "uniform" else 1 + word / 7
            total, weights = total + weight * WORDS[word], weights + weight
        torch.testing.assert_close(found, total / weights)
    assert not tower(padded([[1, 1]], 4)).any()
    assert [name for name, _ in tower.named_parameters()] == ["words.weight"]  # the weights do not learn


def test_idf_that_is_not_known_is_missed_by_the_option() -> None:
    dataset = DatasetInfo(classes=5, multi_label=False, image_size=224, words=WORDS)
    with pytest.raises(XmrError, match=r"--method.text.weighting idf needs .*start a new run"):
        MeanWords(weighting="idf").build(dataset, "text")
