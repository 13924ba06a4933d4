"""What is left of BatchNorm's re-estimation when BatchNorm is folded before training: the means that biases set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.quantize.network import GraphNetwork

_MOMENTUM = 0.01


class ResultMean(nn.Module):
    """Averages what a layer computes, per channel, over training batches, as BatchNorm would; changes nothing.

    Args:
        num_channels: Output channels of the layer.

    Attributes:
        is_open: Whether it averages; only in training mode.
    """

    mean: Tensor
    num_batches: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))
        self.is_open = False

    def forward(self, x: Tensor) -> Tensor:
        """The input itself, [n, channels, ...]."""
        if self.is_open and self.training:
            with torch.no_grad():
                self.num_batches += 1
                # An average over all batches until there are enough of them to forget the first.
                share = max(1.0 / int(self.num_batches), _MOMENTUM)
                self.mean.lerp_(_channel_means(x).to(self.mean), share)
        return x


class _Correction(nn.Module):
    """Moves what a layer computes to a given mean per channel, and remembers by how much."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.mean = mean
        self.shift = torch.zeros_like(mean)

    def forward(self, x: Tensor) -> Tensor:
        self.shift = self.mean - _channel_means(x).to(self.mean)
        return x + self.shift.to(x).reshape(1, -1, *[1] * (x.ndim - 2))


def watch_results(network: GraphNetwork) -> None:
    """Hang a `ResultMean` on every layer."""
    for name in network.layers:
        network.pass_result(name, ResultMean(len(network.bias(name))))


@torch.no_grad()
def reestimate_biases(network: GraphNetwork, pictures: Tensor) -> float:
    """Set biases so that each layer's mean result on some pictures is the average of the last epoch, in layer order.

    A layer sees the corrected results of those before it, all in one pass over the pictures.

    Args:
        network: Trained, with the `ResultMean`s of `watch_results`, which are taken away.
        pictures: Normalized, [n, c, h, w], as they are classified; all in one batch.

    Returns:
        The largest change of a bias.
    """
    was_training = network.training
    network.eval()
    corrections: dict[str, _Correction] = {}
    for name in network.layers:
        watched = network.result_module(name)
        network.pass_result(name, None)
        if isinstance(watched, ResultMean) and int(watched.num_batches):
            corrections[name] = _Correction(watched.mean)
            network.pass_result(name, corrections[name])
    network(pictures)
    largest = 0.0
    for name, correction in corrections.items():
        network.pass_result(name, None)
        network.bias(name).add_(correction.shift.to(network.bias(name)))
        largest = max(largest, float(correction.shift.abs().max()))
    network.train(was_training)
    return largest


def _channel_means(x: Tensor) -> Tensor:
    return x.mean([axis for axis in range(x.ndim) if axis != 1])
