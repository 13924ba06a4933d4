"""What quantization decides: integers, scales and zero-points, once, for every format.

`real = scale * (q - zero_point)` (Jacob et al. 2018, eq. 1). The ONNX QDQ file and the TFLite file are two lowerings
of one `QuantizedGraph`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.graph import Graph

ScalarT = TypeVar("ScalarT", bound=np.generic)

_EXACT_BITS = 16
"""Grids up to here have integers, and differences of them, that float32 holds exactly."""


class QuantParams(msgspec.Struct, frozen=True, kw_only=True):
    """The grid of one tensor.

    Args:
        scale: float32, shape [1] (per_tensor) or [channels] (per_channel).
        zero_point: int32, same shape; all 0 when symmetric.
        axis: Channel axis of the tensor for per_channel, None for per_tensor.
        num_bits: Grid bit-width: levels used, not storage.
        signed: Whether the integers are signed (int8 storage) or not.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    axis: int | None = None
    num_bits: int = 8
    signed: bool = True

    @property
    def qmin(self) -> int:
        """Smallest integer of the grid (full range; symmetric weights use -qmax)."""
        return -(1 << (self.num_bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer of the grid."""
        return (1 << (self.num_bits - 1)) - 1 if self.signed else (1 << self.num_bits) - 1

    def _along_axis(self, array: npt.NDArray[ScalarT], ndim: int) -> npt.NDArray[ScalarT]:
        if self.axis is None:
            return np.reshape(array, ()) if array.size == 1 else array
        shape = [1] * ndim
        shape[self.axis] = -1
        return np.reshape(array, shape)

    def quantize(self, real: npt.NDArray[np.floating[Any]], *, narrow: bool = False) -> npt.NDArray[np.int32]:
        """Round real values to this grid, half to even, saturating; `narrow` keeps to -qmax..qmax."""
        # In place: the weights of one layer may take hundreds of megabytes.
        scale = self._along_axis(self.scale, real.ndim)
        zero_point = self._along_axis(self.zero_point, real.ndim)
        steps = np.asarray(real / scale)
        if self.num_bits > _EXACT_BITS:
            steps = steps.astype(np.float64)
        lowest = -self.qmax if narrow else self.qmin
        np.rint(steps, out=steps)
        np.maximum(steps, (lowest - zero_point).astype(steps.dtype), out=steps)
        np.minimum(steps, (self.qmax - zero_point).astype(steps.dtype), out=steps)
        integers = steps.astype(np.int32)
        integers += zero_point
        return integers

    def dequantize(self, values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """Real values of integers on this grid."""
        scale = self._along_axis(self.scale, values.ndim)
        zero_point = self._along_axis(self.zero_point, values.ndim)
        if self.num_bits > _EXACT_BITS:
            return ((values.astype(np.int32) - zero_point) * scale).astype(np.float32)
        real = np.asarray(values, dtype=np.float32) - zero_point.astype(np.float32)
        real *= scale
        return real


class QuantTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A constant on its grid.

    Args:
        values: int8 for weights, int32 for biases; shape of the float constant.
        params: Its grid.
    """

    values: npt.NDArray[np.integer]
    params: QuantParams

    def dequantize(self) -> npt.NDArray[np.float32]:
        """The real values that the integers stand for."""
        return self.params.dequantize(self.values)


class QuantizedGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A graph and every decision about its integers.

    Args:
        graph: The float graph after quantization passes (activations fused, biases corrected).
        scheme: Scheme id, e.g. "static_wi8_ai8".
        activations: Activation name -> grid (int8, per_tensor, asymmetric). An activation that is absent stays float; a
            dynamic scheme has none at all: kernels find the grid of a layer's input when they run.
        constants: Constant name -> integers (weights int8 per_channel symmetric; biases int32, scale = input * weight).
    """

    graph: Graph
    scheme: str
    activations: Mapping[str, QuantParams]
    constants: Mapping[str, QuantTensor]

    @property
    def is_dynamic(self) -> bool:
        """Whether only weights are integers in the file, and activations become so inside the kernels."""
        return self.scheme.startswith("dynamic_")


def scheme_of(model: Graph | QuantizedGraph) -> str:
    """Scheme id of a model: "float" for a float graph."""
    return model.scheme if isinstance(model, QuantizedGraph) else "float"
