from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.encode.classic import SharedLayer, encode_classic, share_layer
from edgekit.encode.classic_reading import decode_classic
from edgekit.encode.classic_table import measure_classic
from edgekit.models.imports import squeezenet_dc


@pytest.fixture(scope="module")
def squeezenet(shared_data: Path) -> tuple[list[SharedLayer], bytes]:
    """The layers of the authors' published file, as they lie in it, and the file."""
    content = (shared_data / "models" / "compressed_SqueezeNet.net").read_bytes()
    state = squeezenet_dc.read(content).state
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    weights = {name: state[f"{name}.weight"].numpy() for name in names}
    weights[names[0]] = weights[names[0]][:, ::-1]  # back to BGR
    return [share_layer(name, weights[name], state[f"{name}.bias"].numpy()) for name in names], content


def test_measure_classic_counts_what_is_in_the_file() -> None:
    centroids = np.array([-1, 0, 1], dtype=np.float32)
    indices = np.ones((10, 10), dtype=np.uint8)
    indices.flat[[3, 4, 50, 99]] = [0, 0, 0, 2]  # 45 and 48 zeros skipped: two fillers and three
    sparse = SharedLayer(name="a", centroids=centroids, indices=indices, bias=np.zeros(10, np.float32))
    dense = SharedLayer(name="b", centroids=centroids, indices=indices[1:4] // 2 * 2)
    table = measure_classic([sparse, dense], gap_bits=4)
    first, second = table.rows
    assert (first.num_weights, first.num_kept, first.num_stored, first.num_biases) == (100, 4, 9, 10)
    assert (first.weight_bits, first.gap_bits, first.density) == (2, 4, 0.04)
    assert first.coded_weight_bits == pytest.approx(13 / 9)  # five fillers of 1 bit, four weights of 2
    assert first.shared_bytes == 12 + 40 + (25 + 1 + 8) + 3 + 5
    assert first.coded_bytes == 12 + 40 + (25 + 1 + 8) + 2 + 2 + 8 + 2
    assert first.float_bytes == 440
    assert (second.num_kept, second.num_stored, second.gap_bits, second.coded_gap_bits) == (30, 30, 0, 0)
    assert table.total.coded_bytes == len(table.content)
    assert table.total.num_stored == 39
    assert table.total.gap_bits == pytest.approx(4 * 9 / 39)
    assert table.total.coded_ratio == pytest.approx((440 + 120) / len(table.content))


def test_measure_classic_measures_the_file_that_encode_classic_writes() -> None:
    weights = np.rint(np.random.default_rng(0).standard_t(3, (40, 60))).astype(np.float32)
    layers = [share_layer("a", weights), share_layer("b", np.zeros((3, 3), np.float32)), share_layer("c", weights * 2)]
    table = measure_classic(layers, gap_bits=4)
    assert table.content == encode_classic(layers, gap_bits=4)
    assert table.rows[1].num_stored == 0
    assert table.rows[0].coded_weight_bits < table.rows[0].weight_bits


def test_published_file_stores_as_many_symbols_as_we_would(squeezenet: tuple[list[SharedLayer], bytes]) -> None:
    layers, published = squeezenet
    table = measure_classic(layers, gap_bits=4)
    assert [row.num_stored for row in table.rows] == np.frombuffer(published, "<u4", 26).tolist()
    assert table.total.num_kept == 415_921
    # The published file has no more than counts (104 bytes), codebooks, biases, symbols and gaps: our P+Q.
    without_records = sum(row.shared_bytes - 25 - len(row.name) - 16 for row in table.rows)
    assert without_records == len(published) - 104


@pytest.mark.parametrize(("gap_bits", "size_bytes"), [(4, 561_651), (5, 557_532)])
def test_published_file_gets_smaller_by_huffman(
    gap_bits: int, size_bytes: int, squeezenet: tuple[list[SharedLayer], bytes]
) -> None:
    layers, published = squeezenet
    table = measure_classic(layers, gap_bits)
    assert len(table.content) == table.total.coded_bytes == size_bytes < len(published)
    for found, layer in zip(decode_classic(table.content), layers, strict=True):
        assert np.array_equal(found.weights, layer.weights)
