"""How much a network's answers change when the weights of a layer do: what rounding weighs its errors by."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt


class LayerCurvature(msgspec.Struct, frozen=True, kw_only=True):
    """Second-order statistics of one convolution or dense layer.

    A change dW of the layer's [outputs, inputs + 1] matrix (the bias is its last column) costs about
    `1/2 * sum_o sensitivity[o] * dW[o] @ hessian @ dW[o]` nats of divergence per picture: the layer's block of the
    Fisher matrix, without what lies between outputs, and with one Hessian for all of them (Kronecker factors as in
    Martens and Grosse 2015, arXiv:1503.05671).

    Args:
        hessian: float64 [inputs + 1, inputs + 1], the block of one output (its weights in their order, then its bias),
            the mean over outputs; scaled so that the bias has 1.
        sensitivity: float64 [outputs], how large the block of each output is, as a multiple of `hessian`.
    """

    hessian: npt.NDArray[np.float64]
    sensitivity: npt.NDArray[np.float64]
