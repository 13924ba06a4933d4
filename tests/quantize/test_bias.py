from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.graph import Graph
from edgekit.quantize.bias import mean_shift
from edgekit.quantize.execute import run_float
from edgekit.quantize.plan import plan_quantization


def with_error(graph: Graph, name: str, error: np.ndarray) -> Graph:
    return graph.replace(constants={**graph.constants, name: graph.constants[name] + error})


@pytest.mark.parametrize(
    ("shape", "stride", "group"),
    [((6, 4, 1, 1), 1, 1), ((6, 4, 3, 3), 2, 1), ((4, 1, 3, 3), 1, 4), ((8, 2, 5, 5), 1, 2)],
)
def test_mean_shift_is_exact_for_constant_channels(
    graph_builder: Any, shape: tuple[int, int, int, int], stride: int, group: int
) -> None:
    # Channels that are constant over the picture leave padding as the only border effect, which is accounted for.
    builder = graph_builder((1, 4, 9, 9))
    builder.conv("conv", "x", shape, stride=stride, group=group)
    graph = builder.finish()
    layer = plan_quantization(graph).layers[0]
    means = builder.rng.normal(size=4).astype(np.float32)
    x = np.broadcast_to(means.reshape(1, 4, 1, 1), (1, 4, 9, 9)).astype(np.float32)
    error = (builder.rng.normal(size=shape) * 0.01).astype(np.float32)
    before = run_float(graph, x)["conv"]
    after = run_float(with_error(graph, "conv.weight", error), x)["conv"]
    shift = mean_shift(graph, layer, error, means)
    np.testing.assert_allclose(shift, (after - before).mean(axis=(0, 2, 3)), atol=1e-5)


def test_mean_shift_of_gemm_is_exact(graph_builder: Any) -> None:
    builder = graph_builder((1, 7))
    builder.gemm("fc", "x", (3, 7))
    graph = builder.finish()
    x = builder.pictures(50) + 0.5
    error = (builder.rng.normal(size=(3, 7)) * 0.01).astype(np.float32)
    before = run_float(graph, x)["fc"]
    after = run_float(with_error(graph, "fc.weight", error), x)["fc"]
    shift = mean_shift(graph, plan_quantization(graph).layers[0], error, x.mean(axis=0))
    np.testing.assert_allclose(shift, (after - before).mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_bias_correction_reduces_the_mean_shift_of_the_outputs(mobile: Any, quantize_float: Any, bits: int) -> None:
    graph, pictures = mobile
    pictures = pictures + 0.5
    exact = run_float(graph, pictures)

    def mean_errors(corrected: bool) -> dict[str, float]:
        model = quantize_float(graph, pictures, scheme=f"static_wi{bits}_ai8", bias_correction=corrected)
        rounded = {name: tensor.dequantize().astype(np.float32) for name, tensor in model.constants.items()}
        values = run_float(model.graph.replace(constants={**model.graph.constants, **rounded}), pictures)
        names = ("stem", "dw", "project")
        return {name: np.abs((values[name] - exact[name]).mean(axis=(0, 2, 3))).mean() for name in names}

    plain, corrected = mean_errors(False), mean_errors(True)
    assert corrected["stem"] < 0.5 * plain["stem"]
    assert corrected["dw"] < 0.5 * plain["dw"]
    assert corrected["project"] < 0.5 * plain["project"]
