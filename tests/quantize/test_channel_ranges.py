"""Per-channel statistics: right whatever the batches, and bad calibration refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import QuantizationError
from edgekit.quantize.channel_ranges import observe_channels


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_channel_ranges_do_not_depend_on_the_batches(batch_size: int) -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (16, 5, 4, 4)).astype(np.float32)

    batches = ({"a": values[start : start + batch_size]} for start in range(0, 16, batch_size))
    seen = observe_channels(["a"], batches)["a"]

    axes = (0, 2, 3)
    np.testing.assert_array_equal(seen.lowest, values.min(axis=axes))
    np.testing.assert_array_equal(seen.highest, values.max(axis=axes))
    np.testing.assert_allclose(seen.mean, values.mean(axis=axes, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(seen.variance, values.var(axis=axes, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(seen.energy, (values.astype(np.float64) ** 2).mean(axis=axes), rtol=1e-9)
    np.testing.assert_array_equal(seen.reach, np.abs(values).max(axis=axes))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "got none"),
        ([{"b": np.zeros((1, 2))}], "lacks activation a"),
        ([{"a": np.array([[1.0, np.nan]])}], "activation a: expected finite values"),
    ],
)
def test_bad_calibration_is_refused(batches: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        observe_channels(["a"], batches)
