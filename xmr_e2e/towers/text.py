"""Text towers: from token ids to one vector a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


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
        self.lstm = nn.LSTM(vectors.shape[1], config.hidden, batch_first=True, bidirectional=True)
        self.convolution = nn.Conv1d(2 * config.hidden, config.kernels, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Raises RuntimeError for a text of no words."""
        hidden = self._contexts(ids, lengths)
        maps = F.relu(self.convolution(hidden.transpose(1, 2)))
        pooled: Tensor = self.dropout(self._mask(maps, lengths).amax(dim=2))
        return pooled

    def _contexts(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """LSTM states of both directions, (n, max(t, width), 2 * hidden), zero after a text's end."""
        packed = pack_padded_sequence(self.words(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = self.lstm(packed)
        total = max(ids.shape[1], self.convolution.kernel_size[0])
        hidden, _ = pad_packed_sequence(states, batch_first=True, total_length=total)
        return hidden

    def _mask(self, maps: Tensor, lengths: Tensor) -> Tensor:
        """Zero all windows but the H - m + 1 of Eq. 26; a text shorter than a kernel has one, filled up with zeros.

        Zero, not minus infinity: after the ReLU it never exceeds a value that counts.
        """
        windows = (lengths - self.convolution.kernel_size[0] + 1).clamp(min=1).to(maps.device)
        beyond = torch.arange(maps.shape[2], device=maps.device) >= windows[:, None]
        return maps.masked_fill(beyond[:, None], 0)
