"""How much a network's answer changes when the weights of one layer do: what post-training rounding weighs errors by."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt


class LayerCurvature(msgspec.Struct, frozen=True, kw_only=True):
    """Second-order statistics of one convolution or dense layer.

    A change dW of the layer's [outputs, inputs + 1] matrix (the bias is its last column) costs about
    `1/2 * sum_o sensitivity[o] * dW[o] @ hessian @ dW[o]` nats of divergence per picture: the Kronecker-factored
    Fisher matrix (Martens and Grosse 2015, arXiv:1503.05671, section 3) with the factor of the outputs cut down to its
    diagonal.

    Args:
        hessian: float64 [inputs + 1, inputs + 1], E[w x x'] over the positions that the layer is applied to; x in the
            order of the weights of one output, then a constant 1; w is the position's share of the gradient, 1 on
            average.
        sensitivity: float64 [outputs], E over pictures of the sum over positions of the squared gradient.
    """

    hessian: npt.NDArray[np.float64]
    sensitivity: npt.NDArray[np.float64]
