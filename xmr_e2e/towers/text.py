"""Text towers: from token ids to one vector a text, or a word."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.bounds import FractionBelow1, Width
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.text import PAD, UNKNOWN
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, SequenceTower, TokenFeatures, TowerConfig

_RANDOM_WIDTH = 300
_LEAST_WEIGHT = 1e-6  # of a text without a known word, whose sum is zero


class WordEncoder(nn.Module):
    """The first layer: word vectors, copied from the data's and trained on. The same however long the padding is."""

    dim: int

    def __init__(self, vectors: Tensor) -> None:
        """vectors: (v, e), row 0 being padding. Raises XmrError where e is 0."""
        super().__init__()
        if not vectors.shape[1]:
            raise XmrError(
                "this text tower starts from word vectors, and a pretrained tokeniser has none: set "
                "--data.tokens.kind words or sentencepiece, or choose a pretrained text tower"
            )
        self.words = nn.Embedding(len(vectors), vectors.shape[1], padding_idx=0)
        with torch.no_grad():
            self.words.weight[1:] = vectors[1:]  # row 0 stays zero, and padding_idx keeps it so in training


@dataclass(frozen=True)
class BiLstmCnn(TowerConfig):
    """Word vectors, a bidirectional LSTM, a convolution over time and its maximum (ALSCOR's TxtNet, Eq. 19-28)."""

    kind = "bilstm_cnn"
    input_kind = "tokens"

    hidden: Width = 141
    """Width of the LSTM, per direction."""
    kernels: Width = 512
    """Number of convolution kernels: the width of the tower's output."""
    width: Width = 3
    """Width of the convolution kernels, in words."""
    dropout: FractionBelow1 = 0.5
    """Share of the output that is dropped in training."""
    weights: str = field(default="none", kw_only=True)
    """none (the words' vectors, all else random), or a run or exported model, whose tower and tokeniser are taken"""

    def build(self, dataset: DatasetInfo, modality: str) -> BiLstmCnnEncoder:
        """Raises XmrError where the data has no word vectors."""
        return BiLstmCnnEncoder(self, dataset.words)


class BiLstmCnnEncoder(WordEncoder):
    """Tokens of n texts -> (n, dim)."""

    def __init__(self, config: BiLstmCnn, vectors: Tensor) -> None:
        super().__init__(vectors)
        self.dim = config.kernels
        self.width = config.width
        # Two LSTMs on padded texts, not one on packed texts: packing costs a CPU four times the time (measured).
        self.lstm = nn.LSTM(vectors.shape[1], config.hidden, batch_first=True)
        self.lstm_backwards = nn.LSTM(vectors.shape[1], config.hidden, batch_first=True)
        self.convolution = nn.Conv1d(2 * config.hidden, config.kernels, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tokens) -> Tensor:
        states = both_directions(self.lstm, self.lstm_backwards, self.words(tokens.ids), tokens.lengths)
        contexts = torch.cat(states, dim=2) * real_words(tokens)[:, :, None]
        pooled: Tensor = self.dropout(_max_over_time(self.convolution, self.width, contexts, tokens.lengths))
        return pooled


@dataclass(frozen=True)
class TextCnn(TowerConfig):
    """Word vectors, convolutions of several widths over time and their maxima (Kim, 2014): SDCMR's WordCNN."""

    kind = "cnn"
    input_kind = "tokens"

    widths: tuple[Width, ...] = (3, 4, 5)
    """widths of the convolution kernels, in words"""
    kernels: Width = 100
    """kernels of each width; the tower's output is that of all widths together"""
    dropout: FractionBelow1 = 0.0
    """share of the output that is dropped in training: 0.5 as published, for a classifier that comes right behind it, 0
    where heads take the features as they are"""
    weights: str = field(default="none", kw_only=True)
    """none (the words' vectors, all else random), or a run or exported model, whose tower and tokeniser are taken"""

    def build(self, dataset: DatasetInfo, modality: str) -> TextCnnEncoder:
        """Raises XmrError where the data has no word vectors."""
        return TextCnnEncoder(self, dataset.words)


class TextCnnEncoder(WordEncoder):
    """Tokens of n texts -> (n, dim)."""

    def __init__(self, config: TextCnn, vectors: Tensor) -> None:
        super().__init__(vectors)
        self.dim = config.kernels * len(config.widths)
        self.widths = config.widths
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(vectors.shape[1], config.kernels, width) for width in config.widths]
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tokens) -> Tensor:
        words = self.words(tokens.ids)
        maxima = [
            _max_over_time(convolution, width, words, tokens.lengths)
            for convolution, width in zip(self.convolutions, self.widths, strict=True)
        ]
        pooled: Tensor = self.dropout(torch.cat(maxima, dim=1))
        return pooled


@dataclass(frozen=True)
class BiGru(TowerConfig):
    """Word vectors and a bidirectional GRU, pooled over the words."""

    kind = "bigru"
    input_kind = "tokens"

    hidden: Width = 1024
    """width of the GRU, per direction"""
    pooling: Literal["mean", "max"] = "mean"
    """mean: the average over the words; max: of each unit its largest value at any word"""
    directions: Literal["average", "concatenate"] = "average"
    """average: the output has the GRU's width; concatenate: twice that"""
    dropout: FractionBelow1 = 0.0
    """share of the word vectors' numbers, and of the output, that is dropped in training"""
    weights: str = field(default="none", kw_only=True)
    """none (the words' vectors, all else random), or a run or exported model, whose tower and tokeniser are taken"""

    def build(self, dataset: DatasetInfo, modality: str) -> BiGruEncoder:
        """Raises XmrError where the data has no word vectors."""
        return BiGruEncoder(self, dataset.words)


class BiGruEncoder(WordEncoder):
    """Tokens of n texts -> (n, dim)."""

    def __init__(self, config: BiGru, vectors: Tensor) -> None:
        super().__init__(vectors)
        concatenates = config.directions == "concatenate"
        self.dim = config.hidden * (1 + concatenates)
        self.takes_maximum = config.pooling == "max"
        self.gru = GruOfBothDirections(vectors.shape[1], config.hidden, concatenates=concatenates)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tokens) -> Tensor:
        states: Tensor = self.gru(self.dropout(self.words(tokens.ids)), tokens)
        if self.takes_maximum:
            pooled = states.masked_fill(~real_words(tokens)[:, :, None], -math.inf).amax(dim=1)
        else:
            pooled = states.sum(dim=1) / tokens.lengths.to(states.device)[:, None]
        dropped: Tensor = self.dropout(pooled)
        return dropped


@dataclass(frozen=True)
class MeanWords(TowerConfig):
    """The weighted mean of the word vectors; unknown words have no weight, and a text of none but these is zero."""

    kind = "mean"
    input_kind = "tokens"

    weighting: Literal["uniform", "idf"] = "uniform"
    """uniform; or idf: the rarer a word in the training texts, the heavier, log((1 + n) / (1 + n of the word)) + 1 for
    n texts (a sample's texts are one where they are joined, --data.texts)"""

    @property
    def needs_idf(self) -> bool:
        return self.weighting == "idf"

    def build(self, dataset: DatasetInfo, modality: str) -> MeanWordsEncoder:
        """Raises XmrError where the data has no word vectors, or idf is asked for and unknown."""
        vectors = dataset.words
        weights = torch.ones(len(vectors), device=vectors.device)
        if self.needs_idf and not dataset.is_saved:
            if dataset.idf is None:
                raise XmrError(
                    f"--method.{modality}.weighting idf needs the words' frequencies in the training texts, and these "
                    "words were fitted by an earlier version, or without them: start a new run"
                )
            weights = dataset.idf.to(vectors)
        return MeanWordsEncoder(vectors, weights)


class MeanWordsEncoder(WordEncoder):
    """Tokens of n texts -> (n, dim)."""

    weights: Tensor

    def __init__(self, vectors: Tensor, weights: Tensor) -> None:
        """weights: (v,), of the words; those of padding and of unknown words count as 0."""
        super().__init__(vectors)
        self.dim = vectors.shape[1]
        known = torch.ones_like(weights)
        known[[PAD, UNKNOWN]] = 0
        self.register_buffer("weights", weights * known)

    def forward(self, tokens: Tokens) -> Tensor:
        weights = self.weights[tokens.ids] * real_words(tokens)
        total = (self.words(tokens.ids) * weights[:, :, None]).sum(dim=1)
        mean: Tensor = total / weights.sum(dim=1, keepdim=True).clamp(min=_LEAST_WEIGHT)
        return mean


@dataclass(frozen=True)
class BiGruWords(SequenceTower):
    """Word vectors and a bidirectional GRU; both directions' average for each word (Semantic Sharing, Sec. 3.1)."""

    kind = "bigru_words"
    input_kind = "tokens"

    hidden: Width = 1024
    """width of the GRU, per direction: the width of each word's output"""
    embedding: Literal["word2vec", "random"] = "word2vec"
    """initial word vectors: the data's, or 300 numbers of U(-0.1, 0.1) each as in the released code"""
    weights: str = field(default="none", kw_only=True)
    """none (the words' vectors, all else random), or a run or exported model, whose tower and tokeniser are taken"""

    def build(self, dataset: DatasetInfo, modality: str) -> BiGruWordsEncoder:
        """Raises XmrError where the data has no word vectors and the embedding is word2vec."""
        vectors = dataset.words
        if self.embedding == "random":
            vectors = torch.empty(len(vectors), _RANDOM_WIDTH).uniform_(-0.1, 0.1)
        return BiGruWordsEncoder(self, vectors)


class BiGruWordsEncoder(WordEncoder):
    """Tokens of n texts -> their words; rows of padding are zero. Places are the words' numbers, targets their ids."""

    def __init__(self, config: BiGruWords, vectors: Tensor) -> None:
        super().__init__(vectors)
        self.dim = config.hidden
        self.gru = GruOfBothDirections(vectors.shape[1], config.hidden)
        self.mask = nn.Parameter(vectors[1:].mean(dim=0))  # begins as an average word

    def forward(self, tokens: Tokens, masked: Tensor | None = None) -> TokenFeatures:
        """masked: (n, t) bool; True where the learned mask vector is to stand in a word's place."""
        if masked is None:
            masked = torch.zeros_like(tokens.ids, dtype=torch.bool)
        words = self.words(tokens.ids)
        words = torch.where(masked[:, :, None], self.mask.to(words.dtype), words)
        places = torch.arange(tokens.ids.shape[1], device=words.device, dtype=torch.float32)
        return TokenFeatures(
            features=self.gru(words, tokens),
            mask=real_words(tokens),
            positions=places[None, :, None].expand(words.shape[0], -1, -1),
            targets=tokens.ids,
        )


class GruOfBothDirections(nn.Module):
    """Word vectors (n, t, e) of tokens -> the average of both directions' states, (n, t, hidden), zero in padding.

    Args:
        concatenates: both beside each other instead, (n, t, 2 hidden).
    """

    def __init__(self, width: int, hidden: int, *, concatenates: bool = False) -> None:
        super().__init__()
        self.concatenates = concatenates
        self.forwards = nn.GRU(width, hidden, batch_first=True)
        self.backwards = nn.GRU(width, hidden, batch_first=True)

    def forward(self, words: Tensor, tokens: Tokens) -> Tensor:
        both = both_directions(self.forwards, self.backwards, words, tokens.lengths)
        states = torch.cat(both, dim=2) if self.concatenates else (both[0] + both[1]) / 2
        return states * real_words(tokens)[:, :, None]


def real_words(tokens: Tokens) -> Tensor:
    """(n, t) bool: False for padding."""
    places = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    return places < tokens.lengths.to(tokens.ids.device)[:, None]


def both_directions(
    forwards: nn.LSTM | nn.GRU, backwards: nn.LSTM | nn.GRU, words: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """The states (n, t, hidden) of two recurrent networks, one of which reads each text from its end.

    words: (n, t, e). What stands after a text's end means nothing.
    """
    # Turned around within its own length, a text begins with its last word and ends before the padding begins.
    turned = _turn_around(lengths.to(words.device), words.shape[1])
    return forwards(words)[0], _reorder(backwards(_reorder(words, turned))[0], turned)


def _turn_around(lengths: Tensor, longest: int) -> Tensor:
    """(n, longest): for each place of a text the place from its end, and for places of padding themselves."""
    # shape[0], not len(): that is a plain number, for which torch.export would take the example's number of texts.
    places = torch.arange(longest, device=lengths.device).expand(lengths.shape[0], -1)
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)


def _reorder(rows: Tensor, places: Tensor) -> Tensor:
    """(n, t, d) with the time steps in the order of `places` (n, t)."""
    return rows.gather(1, places[:, :, None].expand(-1, -1, rows.shape[2]))


def _max_over_time(convolution: nn.Module, width: int, rows: Tensor, lengths: Tensor) -> Tensor:
    """The largest response of each kernel, not below zero, to n texts as rows (n, t, d), zero after a text's end.

    width: of the kernels, in rows.

    It is that of the text's length - width + 1 windows; a text shorter than the kernels has one, filled up with zeros.
    """
    maps = F.relu(convolution(F.pad(rows, (0, 0, 0, max(0, width - rows.shape[1]))).transpose(1, 2)))
    windows = (lengths - width + 1).clamp(min=1).to(maps.device)
    beyond = torch.arange(maps.shape[2], device=maps.device) >= windows[:, None]
    # Zero, not minus infinity: after the ReLU it never exceeds a value that counts.
    return maps.masked_fill(beyond[:, None], 0).amax(dim=2)
