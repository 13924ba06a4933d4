from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import UsageError
from edgekit.encode.classic import SharedLayer, encode_classic, share_layer
from edgekit.encode.classic_gaps import relative_index
from edgekit.encode.classic_reading import decode_classic

GOLDEN = Path(__file__).parent.parent / "golden" / "classic_v1.dc"


def layer_of(indices: npt.ArrayLike, centroids: list[float], name: str = "layer", bias: object = None) -> SharedLayer:
    kind = np.uint8 if len(centroids) <= 256 else np.uint16
    return SharedLayer(
        name=name,
        centroids=np.array(centroids, dtype=np.float32),
        indices=np.array(indices, dtype=kind),
        bias=None if bias is None else np.array(bias, dtype=np.float32),
    )


def golden_layers() -> list[SharedLayer]:
    """Every kind of layer, written down without a random generator."""
    conv = np.full((4, 3, 3, 3), 2)
    conv.flat[[0, 1, 7, 60, 61, 97, 98, 106]] = [0, 1, 3, 4, 0, 1, 1, 3]  # gaps of 52 and of 35: fillers
    return [
        layer_of(conv, [-0.5, -0.25, 0.0, 0.25, 1.5], "features.0", [0.5, -0.0, np.inf, 1e-40]),
        layer_of([[0, 1, 3, 2], [3, 3, 1, 0]], [-1, 0.125, 0.5, 3], "dense"),
        layer_of(np.arange(600).reshape(30, 20) * 7 % 300, [(i - 150) / 64 for i in range(300)], "wide"),
        layer_of([[1, 1, 1]], [-1, 0, 1], "all zero", [1.0]),
        layer_of([0], [0.75], "weight ü"),
        layer_of([1, 1, 1, 1, 1, 0, 0], [0, 2], "one symbol"),
    ]


def assert_same(found: tuple[SharedLayer, ...], expected: list[SharedLayer]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.name == other.name
        assert one.indices.dtype == other.indices.dtype
        assert one.indices.shape == other.indices.shape
        assert np.array_equal(one.indices, other.indices)
        assert one.centroids.tobytes() == other.centroids.tobytes()
        assert (one.bias is None) == (other.bias is None)
        if one.bias is not None and other.bias is not None:
            assert one.bias.tobytes() == other.bias.tobytes()


def test_version_1_is_read_for_ever() -> None:
    assert_same(decode_classic(GOLDEN.read_bytes()), golden_layers())


def test_version_1_is_written_byte_for_byte_as_the_golden_file() -> None:
    assert encode_classic(golden_layers(), gap_bits=4) == GOLDEN.read_bytes()


@st.composite
def layers(draw: st.DrawFn, name: str = "layer") -> SharedLayer:
    num_centroids = draw(st.sampled_from([1, 2, 3, 16, 33, 256, 257, 1000]))
    first = draw(st.integers(-num_centroids, 1))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=9))
    kind = np.uint8 if num_centroids <= 256 else np.uint16
    drawn = hnp.arrays(kind, shape, elements=st.integers(0, num_centroids - 1))
    indices = draw(drawn)
    sparse = draw(st.booleans())
    if sparse and first <= 0 <= first + num_centroids - 1:
        keep = draw(hnp.arrays(np.bool_, shape, elements=st.integers(0, 40).map(lambda one: one == 0)))
        indices = np.where(keep, indices, -first).astype(kind)
    bias = draw(st.none() | hnp.arrays(np.float32, st.integers(1, 5)))
    centroids = (np.arange(first, first + num_centroids) / 8).astype(np.float32)
    return SharedLayer(name=name, centroids=centroids, indices=indices, bias=bias)


@given(layers("a"), layers("b"), st.integers(1, 8))
def test_encode_classic_round_trips_any_layers(first: SharedLayer, second: SharedLayer, gap_bits: int) -> None:
    assert_same(decode_classic(encode_classic([first, second], gap_bits)), [first, second])


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20), st.integers(0, 5000), st.sampled_from([4, 5]))
def test_encode_classic_round_trips_gaps_of_any_length(gaps: list[int], tail: int, gap_bits: int) -> None:
    indices = np.ones(sum(gaps) + len(gaps) + tail, dtype=np.uint8)
    indices[np.cumsum(np.array(gaps) + 1) - 1] = np.arange(len(gaps)) % 2 * 2
    layer = layer_of(indices, [-1, 0, 1])
    assert_same(decode_classic(encode_classic([layer], gap_bits)), [layer])
    symbols, _ = relative_index(indices, 1, gap_bits)
    assert symbols.size == len(gaps) + sum(gap // 2**gap_bits for gap in gaps)
    assert int((symbols == 1).sum()) == symbols.size - len(gaps)


@pytest.mark.parametrize("gap", [7, 8, 15, 16])
def test_relative_index_puts_a_filler_where_the_papers_figure_does(gap: int) -> None:
    """Figure 2: gaps of 3 bits; a weight that is more than 8 away gets a filler at 8."""
    indices = np.zeros(gap + 1, dtype=np.uint8)
    indices[gap] = 5
    symbols, gaps = relative_index(indices, 0, gap_bits=3)
    expected = {7: ([5], [7]), 8: ([0, 5], [7, 0]), 15: ([0, 5], [7, 7]), 16: ([0, 0, 5], [7, 7, 0])}
    assert (symbols.tolist(), gaps.tolist()) == expected[gap]


def test_encode_classic_stores_no_gaps_when_nothing_is_zero() -> None:
    indices = np.tile(np.array([0, 2], dtype=np.uint8), 4000)
    dense = layer_of(indices, [-1, 0, 1])
    with_zero = layer_of(np.append(indices[:-1], 1), [-1, 0, 1])
    assert len(encode_classic([with_zero])) > len(encode_classic([dense])) + 1
    assert len(encode_classic([dense], 4)) == len(encode_classic([dense], 8))


def test_encode_classic_takes_any_memory_order() -> None:
    layer = layer_of(np.arange(12).reshape(3, 4) % 3, [-1, 0, 1])
    turned = SharedLayer(name="layer", centroids=layer.centroids, indices=np.asfortranarray(layer.indices))
    assert encode_classic([turned]) == encode_classic([layer])


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.sampled_from([-0.0, 0.0, -2, 1.5])))
def test_share_layer_keeps_the_weights(weights: npt.NDArray[np.float32]) -> None:
    layer = share_layer("fc", weights)
    assert np.array_equal(layer.weights, weights)
    assert_same(decode_classic(encode_classic([layer])), [layer])


def test_share_layer_refuses_weights_that_share_nothing() -> None:
    with pytest.raises(UsageError, match="40000 distinct weights"):
        share_layer("fc", np.arange(40000, dtype=np.float32))


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (layer_of([0], [1], ""), "a name of 0 bytes"),
        (layer_of([0], [1], "ü" * 128), "a name of 256 bytes"),
        (layer_of([0], [1], "\ud800"), "no text"),
        (layer_of([0], [np.nan]), "not finite"),
        (layer_of([0], [1, 1]), "do not rise"),
        (layer_of([0], [-0.0, 0.0]), "do not rise"),
        (layer_of([2], [0, 1]), "index 2 of 2 centroids"),
        (layer_of([], [0, 1]), r"shape \(0,\)"),
        (layer_of(0, [0, 1]), r"shape \(\)"),
        (layer_of([0], [0, 1], bias=[[1.0]]), "biases must be"),
        (layer_of([0], []), "centroids must be"),
        (SharedLayer(name="x", centroids=np.zeros(1, np.float32), indices=np.zeros(3, np.uint16)), "must be uint8"),
    ],
    ids=str,
)
def test_encode_classic_refuses_what_is_no_layer(layer: SharedLayer, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        encode_classic([layer])


@pytest.mark.parametrize("gap_bits", [0, 9])
def test_encode_classic_refuses_gaps_of_other_sizes(gap_bits: int) -> None:
    with pytest.raises(UsageError, match="must be 1 to 8"):
        encode_classic([layer_of([0], [1])], gap_bits)


def test_encode_classic_refuses_no_layers_and_two_of_one_name() -> None:
    with pytest.raises(UsageError, match="0 layers"):
        encode_classic([])
    with pytest.raises(UsageError, match="2 layers of 1 names"):
        encode_classic([layer_of([0], [1]), layer_of([0], [1])])
