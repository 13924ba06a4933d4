from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import QuantizationError
from edgekit.quantize.calibration import calibrate, observed_activations
from edgekit.quantize.execute import run_float


def test_calibration_does_not_depend_on_the_batch_size(mobile: Any, calibrate_float: Any) -> None:
    graph, pictures = mobile
    whole = calibrate_float(graph, pictures, batch_size=64)
    parts = calibrate_float(graph, pictures, batch_size=7)
    assert whole.num_pictures == parts.num_pictures == 64
    for name, histogram in whole.histograms.items():
        # BLAS may order sums differently per batch size, so a value can cross a bin's edge.
        assert np.abs(np.cumsum(histogram.counts - parts.histograms[name].counts)).max() <= 3
        np.testing.assert_allclose(whole.channel_means[name], parts.channel_means[name], rtol=1e-5, atol=1e-7)


def test_channel_means_are_the_means(mobile: Any, calibrate_float: Any) -> None:
    graph, pictures = mobile
    values = run_float(graph, pictures)
    means = calibrate_float(graph, pictures).channel_means
    np.testing.assert_allclose(means["stem.act"], values["stem.act"].mean(axis=(0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(means["flat"], values["flat"].mean(axis=0), rtol=1e-4)


def test_only_observed_activations_are_needed(mobile: Any) -> None:
    graph, pictures = mobile
    values = run_float(graph, pictures)
    names = observed_activations(graph)
    assert "stem" not in names
    calibration = calibrate(graph, [{name: values[name] for name in names}])
    assert set(calibration.histograms) == set(names)


def test_no_pictures_is_an_error(mobile: Any) -> None:
    graph, pictures = mobile
    with pytest.raises(QuantizationError, match="needs calibration pictures"):
        calibrate(graph, [])
    empty = {name: value[:0] for name, value in run_float(graph, pictures[:1]).items()}
    with pytest.raises(QuantizationError, match="needs calibration pictures"):
        calibrate(graph, [empty])


def test_missing_activation_is_named(mobile: Any) -> None:
    graph, pictures = mobile
    values = run_float(graph, pictures[:1])
    del values["dw.act"]
    with pytest.raises(QuantizationError, match=r"lacks activation dw\.act"):
        calibrate(graph, [values])


def test_nan_activation_is_named(mobile: Any) -> None:
    graph, pictures = mobile
    values = run_float(graph, pictures[:2])
    values["dw.act"][1, 0, 0, 0] = np.nan
    with pytest.raises(QuantizationError, match=r"activation dw\.act.*nan"):
        calibrate(graph, [values])
