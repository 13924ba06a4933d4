from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.quant import QuantParams, QuantTensor
from edgekit.quantize.entropy import entropy_bytes, limit_bytes, order0_bits, side_bytes

integers = hnp.arrays(np.int8, st.integers(0, 300), elements=st.integers(-127, 127))


@given(integers)
def test_order0_bits_lies_between_zero_and_the_uniform_code(values: npt.NDArray[np.int8]) -> None:
    num_levels = max(len(set(values.tolist())), 1)
    assert 0.0 <= order0_bits(values) <= values.size * np.log2(num_levels) + 1e-6


@given(integers, st.randoms(use_true_random=False))
def test_order0_bits_ignores_order(values: npt.NDArray[np.int8], random: Any) -> None:
    shuffled = values.tolist()
    random.shuffle(shuffled)
    assert order0_bits(np.array(shuffled, dtype=np.int8)) == pytest.approx(order0_bits(values))


def test_order0_bits_of_known_distributions() -> None:
    assert order0_bits(np.arange(256)) == pytest.approx(256 * 8)
    assert order0_bits(np.zeros(100, dtype=np.int8)) == 0.0
    assert order0_bits(np.array([], dtype=np.int8)) == 0.0
    assert order0_bits(np.repeat([0, 1], [3, 1])) == pytest.approx(4 * 0.811278, rel=1e-5)


def test_side_bytes_count_scales_and_zero_points() -> None:
    scale = np.ones(3, dtype=np.float32)
    symmetric = QuantTensor(
        values=np.zeros((3, 2), dtype=np.int8),
        params=QuantParams(scale=scale, zero_point=np.zeros(3, dtype=np.int32), axis=0),
    )
    assert side_bytes(symmetric) == 12
    assert entropy_bytes(symmetric) == 0
    shifted = QuantTensor(
        values=symmetric.values, params=QuantParams(scale=scale, zero_point=np.ones(3, dtype=np.int32), axis=0)
    )
    assert side_bytes(shifted) == 24


def test_limit_adds_weights_biases_and_side_information(mobile: Any, quantize_float: Any) -> None:
    model = quantize_float(*mobile)
    weights = [tensor for tensor in model.constants.values() if tensor.params.num_bits == 8]
    biases = [tensor for tensor in model.constants.values() if tensor.params.num_bits == 32]
    assert len(weights) == len(biases) == 4
    num_grids = len({(float(grid.scale[0]), int(grid.zero_point[0])) for grid in model.activations.values()})
    expected = sum(entropy_bytes(tensor) + side_bytes(tensor) for tensor in weights)
    expected += sum(4 * tensor.values.size for tensor in biases) + 5 * num_grids
    assert limit_bytes(model) == expected


def test_fewer_bits_lower_the_limit(mobile: Any, quantize_float: Any) -> None:
    sizes = [limit_bytes(quantize_float(*mobile, scheme=f"static_wi{bits}_ai8")) for bits in (4, 6, 8)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
