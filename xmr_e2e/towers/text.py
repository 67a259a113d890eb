"""Text towers: from token ids to one vector a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BiLstmCnn:
    """Word vectors, a bidirectional LSTM, a convolution over time and its maximum (ALSCOR's TxtNet, Eq. 19-28)."""

    hidden: int = 141
    """Width of the LSTM, per direction."""
    kernels: int = 512
    """Number of convolution kernels: the width of the tower's output."""
    width: int = 3
    """Width of the convolution kernels, in words."""
    dropout: float = 0.5
    """Share of the output that is dropped in training."""

    def build(self, vectors: Tensor) -> BiLstmCnnEncoder:
        """The tower over a table of word vectors (v, e), row 0 being padding; the table is copied and trained on."""
        return BiLstmCnnEncoder(self, vectors)


class BiLstmCnnEncoder(nn.Module):
    """ids (n, t), padded with 0 at the end, and lengths (n,) -> (n, dim); the same however long the padding is."""

    dim: int

    def __init__(self, config: BiLstmCnn, vectors: Tensor) -> None:
        super().__init__()
        self.dim = config.kernels
        self.words = nn.Embedding(len(vectors), vectors.shape[1], padding_idx=0)
        with torch.no_grad():
            self.words.weight[1:] = vectors[1:]  # row 0 stays zero, and padding_idx keeps it so in training
        # Two LSTMs on padded texts, not one on packed texts: packing costs a CPU four times the time (measured).
        self.lstm = nn.LSTM(vectors.shape[1], config.hidden, batch_first=True)
        self.lstm_backwards = nn.LSTM(vectors.shape[1], config.hidden, batch_first=True)
        self.convolution = nn.Conv1d(2 * config.hidden, config.kernels, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        hidden = self._contexts(ids, lengths)
        maps = F.relu(self.convolution(hidden.transpose(1, 2)))
        pooled: Tensor = self.dropout(self._mask(maps, lengths).amax(dim=2))
        return pooled

    def _contexts(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """LSTM states of both directions, (n, max(t, width), 2 * hidden), zero after a text's end."""
        words = self.words(ids)
        forwards, _ = self.lstm(words)
        # Turned around within its own length, a text begins with its last word and ends before the padding begins.
        turned = _turn_around(lengths.to(ids.device), ids.shape[1])
        backwards, _ = self.lstm_backwards(_reorder(words, turned))
        states = torch.cat([forwards, _reorder(backwards, turned)], dim=2)
        within = torch.arange(ids.shape[1], device=ids.device) < lengths.to(ids.device)[:, None]
        missing = max(0, self.convolution.kernel_size[0] - ids.shape[1])
        return F.pad(states * within[:, :, None], (0, 0, 0, missing))

    def _mask(self, maps: Tensor, lengths: Tensor) -> Tensor:
        """Zero all windows but the H - m + 1 of Eq. 26; a text shorter than a kernel has one, filled up with zeros.

        Zero, not minus infinity: after the ReLU it never exceeds a value that counts.
        """
        windows = (lengths - self.convolution.kernel_size[0] + 1).clamp(min=1).to(maps.device)
        beyond = torch.arange(maps.shape[2], device=maps.device) >= windows[:, None]
        return maps.masked_fill(beyond[:, None], 0)


def _turn_around(lengths: Tensor, longest: int) -> Tensor:
    """(n, longest): for each place of a text the place from its end, and for places of padding themselves."""
    places = torch.arange(longest, device=lengths.device).expand(len(lengths), -1)
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)


def _reorder(rows: Tensor, places: Tensor) -> Tensor:
    """(n, t, d) with the time steps in the order of `places` (n, t)."""
    return rows.gather(1, places[:, :, None].expand(-1, -1, rows.shape[2]))
