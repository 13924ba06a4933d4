"""Random little networks keep their answers, whatever is scaled and absorbed in them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.graph import Graph
from edgekit.quantize.channel_flow import find_links
from edgekit.quantize.equalization import (
    EqualizationConfig,
    EqualizationPlan,
    LinkScale,
    apply_equalization,
    equalize,
)
from equalized import assert_same_answers, observe, random_pictures
from graphs import GraphBuilder


@settings(max_examples=60)
@given(st.data())
def test_any_scales_leave_the_answers_of_a_random_graph(data: st.DataObject) -> None:
    graph = data.draw(_graphs())
    x = random_pictures(graph, 2)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    # Without a Clip any positive scale is right, not only the ones that would be chosen.
    links = tuple(
        LinkScale(
            layer=link.layer,
            readers=link.readers,
            scales=np.exp(rng.normal(0, 1, link.num_channels)),
            absorbed=np.zeros(link.num_channels),
        )
        for link in find_links(graph)
        if link.limit == np.inf
    )

    assert_same_answers(graph, apply_equalization(graph, EqualizationPlan(links=links, num_rounds=0)), x)


@settings(max_examples=60)
@given(st.data())
def test_planned_scales_leave_the_answers_of_a_random_graph(data: st.DataObject) -> None:
    graph = data.draw(_graphs())
    x = random_pictures(graph, 2)
    config = EqualizationConfig(granularity=data.draw(st.sampled_from(("per_channel", "per_tensor"))))

    assert_same_answers(graph, equalize(graph, observe(graph, x), config), x)


@st.composite
def _graphs(draw: st.DrawFn) -> Graph:
    """A little network: layers, activations, pools, shuffles, shortcuts and joins in any order; high biases too."""
    builder = GraphBuilder((1, draw(st.sampled_from([2, 4])), 6, 6), seed=draw(st.integers(0, 1000)))
    at = builder.conv("input", 4, 1)
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=8)):
        at = _take(builder, step, at, draw(st.booleans()))
    if draw(st.booleans()):
        at = builder.global_pool(at)
    builder.gemm(builder.flatten(at), 3)
    for name in builder.constants:
        if name.endswith("bias"):
            builder.constants[name] += np.float32(draw(st.sampled_from([0.0, 0.0, 8.0])))
    return builder.build()


_STEPS = (
    "conv",
    "depthwise",
    "grouped",
    "relu",
    "relu6",
    "max",
    "average",
    "shuffle",
    "add",
    "concat",
    "split",
    "swish",
)


def _take(builder: GraphBuilder, step: str, at: str, flag: bool) -> str:
    """One step further, at 4 channels again; `flag` chooses padding or bias."""
    if step in {"conv", "depthwise", "grouped"}:
        group = {"conv": 1, "grouped": 2, "depthwise": 4}[step]
        return builder.conv(at, 4, 3 if flag else 1, pads=int(flag), group=group, bias=not flag)
    if step in {"max", "average"}:
        op = "MaxPool" if step == "max" else "AveragePool"
        return builder.pool(op, at, 3, pads=1, count_include_pad=int(flag))
    if step == "add":
        return builder.binary("Add", at, builder.conv(builder.relu(at), 4, 1))
    if step == "concat":
        return builder.conv(builder.concat([builder.relu(at), builder.conv(at, 2, 1)]), 4, 1)
    if step == "split":
        left, right = builder.split(at, (1, 3))
        return builder.concat([right, builder.relu(left) if flag else builder.conv(left, 1, 1)])
    if step == "shuffle":
        return builder.shuffle(at, 2)
    return {"relu": builder.relu, "relu6": builder.relu6, "swish": lambda x: builder.same("HardSwish", x)}[step](at)
