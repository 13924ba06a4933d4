"""The table of sizes and errors that bits are chosen by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Graph
from edgekit.core.progress import Silent
from edgekit.quantize.allocation import allocate, most_precise, smallest
from edgekit.quantize.layerwise import put_layer
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.probing import PROBE_BITS, Table, TableConfig, measure_table
from edgekit.quantize.ptq import QuantizationStart
from graphs import GraphBuilder
from rounding_starts import Reals32, batches_of, mobile_graph, smooth_pictures, start_of

CONFIG = TableConfig(bits=(2, 4, 6, 8))


def starts_of(graph: Graph, x: Reals32, config: TableConfig = CONFIG) -> dict[int, QuantizationStart]:
    layers = [node.name for node in graph.nodes if node.op in ("Conv", "Gemm")]
    return {bits: start_of(graph, x, 8, dict.fromkeys(layers, bits)) for bits in config.bits}


def measure(graph: Graph, x: Reals32, num_probes: int = 24) -> Table:
    return measure_table(starts_of(graph, x), batches_of(x), batches_of(x[:num_probes]), CONFIG, Silent())


@pytest.fixture(scope="module")
def table() -> Table:
    return measure(mobile_graph(), smooth_pictures(48))


def test_every_layer_has_every_number_of_bits(table: Table) -> None:
    graph = mobile_graph()
    layers = [node for node in graph.nodes if node.op in ("Conv", "Gemm")]

    assert [option.name for option in table.options] == [node.name for node in layers]
    for option, node in zip(table.options, layers, strict=True):
        assert option.num_weights == graph.constants[node.inputs[1]].size
        assert tuple(each.num_bits for each in option.candidates) == CONFIG.bits
    assert set(table.decided) == {(option.name, bits) for option in table.options for bits in CONFIG.bits}


def test_more_bits_are_larger_and_better(table: Table) -> None:
    for option in table.options:
        sizes = [each.size_bytes for each in option.candidates]
        errors = [each.error for each in option.candidates]
        assert sizes == sorted(sizes)
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.01 * errors[0]
        assert sizes[-1] <= option.num_weights
        assert sizes[0] <= option.num_weights * 2 / 8


def test_error_at_the_probe_is_the_divergence_of_the_answers(table: Table) -> None:
    graph, x = mobile_graph(), torch.from_numpy(smooth_pictures(48)[:24])
    with torch.no_grad():
        reference = functional.log_softmax(GraphNetwork(graph)(x), 1).double()
        for option in table.options:
            network = GraphNetwork(graph)
            put_layer(network, option.name, table.decided[option.name, PROBE_BITS])
            changed = functional.log_softmax(network(x), 1).double()
            expected = float((reference.exp() * (reference - changed)).sum(1).mean())
            found = next(each.error for each in option.candidates if each.num_bits == PROBE_BITS)
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_table_is_the_same_every_time(table: Table) -> None:
    assert measure(mobile_graph(), smooth_pictures(48)).options == table.options


def test_allocation_spends_bits_where_answers_change_most(table: Table) -> None:
    low, high = smallest(table.options), most_precise(table.options)
    middle = allocate(table.options, (low.size_bytes + high.size_bytes) / 2)

    assert low.error > middle.error > high.error
    even = sum(option.candidates[1].error for option in table.options)
    if middle.size_bytes >= sum(option.candidates[1].size_bytes for option in table.options):
        assert middle.error <= even


def test_dead_layer_costs_nothing_at_any_bits() -> None:
    graph = mobile_graph()
    constants = {**graph.constants, "layer4.weight": np.zeros_like(graph.constants["layer4.weight"])}

    table = measure(graph.replace(constants=constants), smooth_pictures(16), 8)

    dead = next(option for option in table.options if option.name == "conv_4")
    assert [each.error for each in dead.candidates] == [0.0] * 4
    assert allocate(table.options, 1e9).bits.keys() == {option.name for option in table.options}


def test_pictures_that_are_all_black_give_errors_that_are_numbers() -> None:
    table = measure(mobile_graph(), np.zeros((8, 3, 10, 10), np.float32), 8)

    errors = [each.error for option in table.options for each in option.candidates]
    assert np.isfinite(errors).all()
    assert min(errors) >= 0


def test_no_pictures_are_an_error() -> None:
    starts = starts_of(mobile_graph(), smooth_pictures(4))
    none = smooth_pictures(4)[:0]

    with pytest.raises(QuantizationError, match="no calibration pictures"):
        measure_table(starts, lambda: iter(()), batches_of(none), CONFIG, Silent())


def test_network_without_layers_has_an_empty_table() -> None:
    build = GraphBuilder((1, 3, 10, 10))
    build.flatten(build.global_pool(build.relu("input")))

    assert measure(build.build(), smooth_pictures(4)).options == ()
