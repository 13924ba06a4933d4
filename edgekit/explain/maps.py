"""What Grad-CAM weighs: the last feature maps of a network, or a transformer's tokens laid out as maps."""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor, nn

from edgekit.core.graph import TOKEN_RANK, Graph, Node

_MAP_RANK = 4


class Maps(msgspec.Struct, frozen=True, kw_only=True):
    """An activation with a place for every part of the picture.

    Args:
        activation: Its name in the graph, [n, c, h, w] or tokens [n, t, c].
        grid: Rows and columns of the patches that tokens stand for; None for maps.
        num_first: Tokens in front of those of the patches, which stand for no place (the class token).
    """

    activation: str
    grid: tuple[int, int] | None = None
    num_first: int = 0


class TokenMaps(nn.Module):
    """Passes tokens on, and shows those of patches as maps on the way.

    Args:
        maps: Of tokens. `self.maps` sees them, [n, c, rows, columns].
    """

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        if maps.grid is None:
            raise ValueError(f"{maps.activation} has no tokens")
        self.maps = nn.Identity()
        self._grid = maps.grid
        self._num_first = maps.num_first

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, channels] stays as it is."""
        first, patches = x[:, : self._num_first], x[:, self._num_first :]
        maps = self.maps(patches.transpose(1, 2).unflatten(2, self._grid))
        return torch.cat([first, maps.flatten(2).transpose(1, 2)], 1)


def last_maps(graph: Graph) -> Maps | None:
    """What Grad-CAM looks at: the last activation with a height and a width above 1, or that of a transformer.

    A transformer has maps where it begins, but its answer is made of tokens: there it is what the last attention is
    given, normalized. Behind that attention the class token asks the others no more: what they hold moves no answer.

    None where there is neither.
    """
    for name in reversed(graph.activations()):
        shape = graph.shapes[name]
        if len(shape) == TOKEN_RANK:
            return _last_tokens(graph)
        if _is_map(graph, name):
            return Maps(activation=name)
    return None


def _last_tokens(graph: Graph) -> Maps | None:
    """The normalized tokens before the last attention; None where their places are not known."""
    ops = [node.op for node in graph.nodes]
    if "Attention" not in ops:
        return None
    last = len(ops) - 1 - ops[::-1].index("Attention")
    norms = [node for node in graph.nodes[:last] if _is_token_norm(graph, node)]
    patches = [name for name in graph.activations() if _is_map(graph, name)]
    if not (norms and patches):
        return None
    _, _, rows, columns = graph.shapes[patches[-1]]
    num_tokens = graph.shapes[norms[-1].output][1]
    num_first = num_tokens - rows * columns
    if num_first < 0 or (num_first and not _are_in_front(graph, rows * columns, num_tokens)):
        return None
    return Maps(activation=norms[-1].output, grid=(rows, columns), num_first=num_first)


def _is_map(graph: Graph, name: str) -> bool:
    shape = graph.shapes[name]
    return len(shape) == _MAP_RANK and math.prod(shape[2:]) > 1 and name != graph.input


def _is_token_norm(graph: Graph, node: Node) -> bool:
    return node.op == "LayerNormalization" and len(graph.shapes[node.output]) == TOKEN_RANK


def _are_in_front(graph: Graph, num_patches: int, num_tokens: int) -> bool:
    """Whether the tokens beside those of the patches are put in front of them: a Pad, to which they are added."""
    for node in graph.nodes:
        lengths = graph.shapes[node.inputs[0]][1:2], graph.shapes[node.output][1:2]
        if node.op == "Pad" and lengths == ((num_patches,), (num_tokens,)):
            return node.ints("pads")[0] == num_tokens - num_patches
    return False
