"""Which layers' channels may be scaled, who reads them, and what no factor or shift passes through."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quantize.channel_flow import find_links
from equalized import small_family
from graphs import GraphBuilder


@pytest.mark.parametrize(
    ("variant", "linked", "unlinked"),
    [
        # The three of a fire module read each other through Concat; pooling is no obstacle, nor is the last average.
        ("squeezenet1_1", 25, 1),
        ("lenet5", 3, 1),
        ("lenet_300_100", 2, 1),
        ("mobilenet_v1_w0.25", 27, 1),
    ],
)
def test_chains_without_shortcuts_are_linked_throughout(variant: str, linked: int, unlinked: int) -> None:
    graph = small_family(variant)

    layers = [node.name for node in graph.nodes if node.op in {"Conv", "Gemm"}]

    assert len(find_links(graph)) == linked
    assert len(layers) == linked + unlinked


@pytest.mark.parametrize("op", ["Sigmoid", "HardSwish"])
def test_no_link_through_what_is_not_homogeneous(op: str) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    builder.conv(builder.same(op, builder.conv("input", 8, 1)), 4, 1)

    assert find_links(builder.build()) == ()


def test_no_link_into_a_sum_or_the_output() -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    first = builder.conv("input", 4, 1)
    second = builder.conv(builder.relu(first), 4, 1)
    builder.conv(builder.binary("Add", first, second), 4, 1)

    assert find_links(builder.build()) == ()


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.5, 6.0)])
def test_no_link_through_a_clip_that_does_not_start_at_zero(low: float, high: float) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    builder.conv(builder.same("Clip", builder.conv("input", 4, 1), min=low, max=high), 4, 1)

    assert find_links(builder.build()) == ()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_link_through_padding_only_with_zeros(value: float) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    made = builder.conv("input", 4, 1)
    (padded,) = builder.node("Pad", [made], [(1, 4, 8, 8)], {"pads": (1, 1, 1, 1), "value": value})
    builder.conv(padded, 4, 3)

    assert [link.is_shiftable for link in find_links(builder.build())] == ([False] if value == 0 else [])


def test_owners_follow_shuffled_split_joined_and_flattened_channels() -> None:
    builder = GraphBuilder((1, 3, 2, 2))
    made = builder.conv("input", 4, 1)
    other = builder.conv("input", 2, 1)
    left, right = builder.split(builder.shuffle(made, 2), (1, 3))
    builder.conv(left, 2, 1)
    builder.gemm(builder.flatten(builder.concat([other, right])), 3)

    # Shuffled in two groups, the four channels lie 0, 2, 1, 3; every map has four positions.
    first, second = find_links(builder.build())

    assert [reader.owners.tolist() for reader in first.readers] == [
        [0],
        np.repeat([-1, -1, 2, 1, 3], 4).tolist(),
    ]
    assert [reader.owners.tolist() for reader in second.readers] == [np.repeat([0, 1, -1, -1, -1], 4).tolist()]


@pytest.mark.parametrize(("count_include_pad", "is_shiftable"), [(0, True), (1, False)])
def test_absorption_knows_whether_an_average_counts_its_padding(count_include_pad: int, is_shiftable: bool) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    hidden = builder.relu(builder.conv("input", 4, 1))
    hidden = builder.pool("AveragePool", hidden, 3, pads=1, count_include_pad=count_include_pad)
    builder.conv(hidden, 4, 1)

    assert [link.is_shiftable for link in find_links(builder.build())] == [is_shiftable]
