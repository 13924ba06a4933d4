from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize.calibration import calibrate
from edgekit.quantize.execute import run_float
from edgekit.quantize.limits import LARGEST_MULTIPLIER, SMALLEST_MULTIPLIER
from edgekit.quantize.plan import plan_quantization
from edgekit.quantize.ptq import choose_activation_grids, quantize_static


def scale_of(model: QuantizedGraph, name: str) -> float:
    return float(model.activations[name].scale[0])


def multipliers(model: QuantizedGraph) -> dict[str, np.ndarray]:
    """Per Conv and Gemm, what takes its accumulators to the output's grid."""
    plan = plan_quantization(model.graph)
    return {
        layer.node.name: scale_of(model, layer.input)
        * model.constants[layer.weight].params.scale.astype(np.float64)
        / scale_of(model, layer.output)
        for layer in plan.layers
    }


@pytest.mark.parametrize("shrink", [1e-3, 1e-8, 1e-20, 0.0])
def test_layer_that_hardly_moved_in_calibration_keeps_a_multiplier_that_kernels_take(
    mobile: Any, shrink: float
) -> None:
    graph, pictures = mobile
    values = run_float(graph, pictures)
    tiny = {name: value if name == "x" else value * np.float32(shrink) for name, value in values.items()}
    model = quantize_static(graph, calibrate(graph, [tiny]), QuantizeSection())
    for name, values_of_layer in multipliers(model).items():
        assert values_of_layer.max() <= LARGEST_MULTIPLIER * (1 + 1e-6), name
        assert values_of_layer.min() >= SMALLEST_MULTIPLIER * (1 - 1e-6), name
    for first, second in (("cat", "shuffle"), ("left", "pool"), ("cat", "sum")):
        assert scale_of(model, first) == scale_of(model, second)


def test_ordinary_grids_are_left_as_chosen(mobile: Any, calibrate_float: Any) -> None:
    graph, pictures = mobile
    calibration = calibrate_float(graph, pictures)
    chosen = choose_activation_grids(plan_quantization(graph), calibration, QuantizeSection())
    model = quantize_static(graph, calibration, QuantizeSection())
    assert {name: float(grid.scale[0]) for name, grid in chosen.items()} == {
        name: scale_of(model, name) for name in model.activations
    }
