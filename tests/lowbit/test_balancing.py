"""Balancing channels of a model with calibration pictures."""

from __future__ import annotations

import numpy as np

from edgekit.core.progress import Silent
from edgekit.core.recipe import QuantizeSection
from edgekit.lowbit.balancing import balance
from edgekit.quantize.execute import run_float
from edgekit.runtime.preprocess import normalize
from graphs import GraphBuilder
from lowbit_jobs import SPEC, hub_of, pictures_for

SECTION = QuantizeSection(num_calibration=32)


def test_balanced_model_answers_as_before_and_keeps_its_card() -> None:
    build = GraphBuilder((1, 3, 10, 10), seed=4)
    x = build.relu(build.conv("input", 12, 3, pads=1))
    dwarfing = np.where(np.arange(12) % 3 == 0, 20.0, 1.0)
    build.constant("layer0.weight", build.constants["layer0.weight"] * dwarfing[:, None, None, None])
    build.constant("layer0.bias", build.constants["layer0.bias"] * dwarfing)
    x = build.relu(build.conv(x, 8, 1))
    build.gemm(build.flatten(build.global_pool(x)), 5)
    hub = hub_of(build.build())
    source = pictures_for(hub, 48)

    balanced = balance(hub, source, SECTION, Silent())

    assert balanced is not hub
    assert (balanced.card, balanced.num_params, balanced.trained) == (hub.card, hub.num_params, hub.trained)
    assert not np.allclose(balanced.graph.constants["layer0.weight"], hub.graph.constants["layer0.weight"])
    pictures = normalize(source.pictures, SPEC)
    before, after = (run_float(each.graph, pictures)[each.graph.output] for each in (hub, balanced))
    assert np.abs(after - before).max() <= 0.02 * np.abs(before).max()


def test_model_with_nothing_to_balance_is_returned_as_it_is() -> None:
    build = GraphBuilder((1, 3, 10, 10))
    build.gemm(build.flatten(build.global_pool("input")), 5)
    hub = hub_of(build.build())

    assert balance(hub, pictures_for(hub, 8), SECTION, Silent()) is hub
