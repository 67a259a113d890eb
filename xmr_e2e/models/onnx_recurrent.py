"""Recurrent networks as ONNX's own operators, which read texts of any length."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# The blocks of rows in a weight matrix of torch, in ONNX's order of the gates: ONNX has a GRU's update gate before its
# reset gate, and an LSTM's output gate before its forget gate and the cell.
_GATES: dict[type[nn.RNNBase], tuple[int, ...]] = {nn.GRU: (1, 0, 2), nn.LSTM: (0, 3, 1, 2)}


def with_onnx_operators(network: nn.Module) -> nn.Module:
    """The same network, for the exporter alone: each GRU and LSTM in it is replaced by an `OnnxRecurrent`.

    The exporter takes them apart into steps, and takes the example's number of steps for that of every text: shapes
    that are computed further on (transformers' attention does) are then right for texts of the example's length only.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.RNNBase):
            network.set_submodule(name, OnnxRecurrent(module))
    return network


class OnnxRecurrent(nn.Module):
    """Rows (n, t, e) -> states (n, t, hidden) and nothing else; a graph's node, which computes nothing in torch.

    Raises:
        ValueError: several layers or directions, or time steps in the first dimension.
    """

    of_input: Tensor
    of_states: Tensor
    bias: Tensor

    def __init__(self, network: nn.RNNBase) -> None:
        super().__init__()
        if network.num_layers > 1 or network.bidirectional or not network.batch_first or network.proj_size:
            raise ValueError(f"{network}: one layer of one direction with batch_first=True can be exported")
        self.operator = type(network).__name__
        self.hidden = network.hidden_size
        arrange = _arranged(_GATES[type(network)])
        weights = {name: arrange(parameter.detach()) for name, parameter in network.named_parameters()}
        self.register_buffer("of_input", weights["weight_ih_l0"][None])
        self.register_buffer("of_states", weights["weight_hh_l0"][None])
        self.register_buffer("bias", torch.cat([weights["bias_ih_l0"], weights["bias_hh_l0"]])[None])

    def forward(self, rows: Tensor) -> tuple[Tensor, None]:
        # torch applies a GRU's reset gate behind the multiplication; of an LSTM there is no such choice.
        choice = {"linear_before_reset": 1} if self.operator == "GRU" else {}
        states = torch.onnx.ops.symbolic(
            self.operator,
            (rows.transpose(0, 1), self.of_input, self.of_states, self.bias),
            {"hidden_size": self.hidden, **choice},
            dtype=rows.dtype,
            shape=(rows.shape[1], 1, rows.shape[0], self.hidden),
        )
        return states.squeeze(1).transpose(0, 1), None


def _arranged(order: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    def arrange(weights: Tensor) -> Tensor:
        gates = weights.chunk(len(order))
        return torch.cat([gates[gate] for gate in order])

    return arrange
