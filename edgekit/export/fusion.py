"""Patterns that frameworks write as several operators and the hub graph spells as one."""

from __future__ import annotations

import math

import numpy as np

from edgekit.core.graph import Attribute, Graph, Node
from edgekit.export.sweep import Sweep


def fuse_channel_shuffle(sweep: Sweep, node: Node) -> bool:
    """Rule: Reshape [g, n], Transpose, Reshape back is ChannelShuffle (Zhang et al. 2018, sec. 3.1)."""
    if node.op != "Reshape":
        return False
    swap = sweep.producer_if(node.inputs[0], "Transpose")
    view = sweep.producer_if(swap.inputs[0], "Reshape") if swap is not None else None
    if swap is None or view is None:
        return False
    shape, split = sweep.shape(view.inputs[0]), view.ints("shape")
    if len(shape) != 4 or len(split) < 4 or node.ints("shape") != shape:
        return False
    swapped = (0, 2, 1, *range(3, len(split)))
    keeps_pixels = split[1] * split[2] == shape[1] and math.prod(split[3:]) == shape[2] * shape[3]
    if swap.ints("perm") != swapped or not keeps_pixels:
        return False
    return sweep.emit_as(node, "ChannelShuffle", (view.inputs[0],), {"groups": split[1]})


def fuse_hard_activations(sweep: Sweep, node: Node) -> bool:
    """Rule: Clip(x + 3, 0, 6) / 6 is HardSigmoid, x * HardSigmoid(x) is HardSwish (Howard et al. 2019, sec. 5.2)."""
    if node.op != "Mul":
        return False
    for first, second in (node.inputs, node.inputs[::-1]):
        factor = sweep.constants.get(second)
        if factor is not None and factor.size == 1 and math.isclose(float(factor.item()), 1 / 6, rel_tol=1e-6):
            base = _shifted_relu6(sweep, first)
            if base is not None:
                return sweep.emit_as(node, "HardSigmoid", (base,), {"alpha": 1 / 6, "beta": 0.5})
            product = sweep.producer_if(first, "Mul")
            if product is not None and _is_times_shifted_relu6(sweep, product):
                base = next(name for name in product.inputs if _shifted_relu6(sweep, name) is None)
                return sweep.emit_as(node, "HardSwish", (base,))
        gate = sweep.producer_if(second, "HardSigmoid")
        if gate is not None and gate.inputs[0] == first and _is_standard_gate(gate):
            return sweep.emit_as(node, "HardSwish", (first,))
    return False


def fuse_clip(sweep: Sweep, node: Node) -> bool:
    """Rule: Relu and Clip in a row are one Clip; Clip from 0 upwards without end is Relu."""
    if node.op not in ("Relu", "Clip"):
        return False
    source, bounds = node.inputs[0], _bounds(node)
    before = sweep.producer_if(source, "Relu", "Clip")
    if before is not None:
        inner = _bounds(before)
        merged = (max(bounds[0], inner[0]), min(bounds[1], inner[1]))
        if merged == inner:
            return sweep.forward(node.output, source)
        if merged[0] <= merged[1]:
            source, bounds = before.inputs[0], merged
    if bounds[0] == 0.0 and bounds[1] >= float(np.finfo(np.float32).max):
        return False if node.op == "Relu" and source == node.inputs[0] else sweep.emit_as(node, "Relu", (source,))
    if source == node.inputs[0]:
        return False
    return sweep.emit_as(node, "Clip", (source,), {"min": bounds[0], "max": bounds[1]})


def merge_pad(sweep: Sweep, node: Node) -> bool:
    """Rule: zeros padded before a Conv (or a pool that counts or ignores them alike) become the operator's own pads."""
    if node.op not in ("Conv", "AveragePool", "MaxPool"):
        return False
    pad = sweep.producer_if(node.inputs[0], "Pad")
    if pad is None:
        return False
    value, own = pad.float("value"), node.ints("pads")
    if node.op == "Conv" and value != 0.0:
        return False
    if node.op == "AveragePool" and (value != 0.0 or (any(own) and not node.int("count_include_pad"))):
        return False
    if node.op == "MaxPool":
        # ONNX pads max-pools with -inf. Padding with the least value that the data can take is the same.
        source = sweep.producer_if(pad.inputs[0], "Relu", "Clip")
        lowest = -math.inf if source is None else _bounds(source)[0]
        if value > lowest and value > float(np.finfo(np.float32).min):
            return False
    pads = tuple(mine + padded for mine, padded in zip(own, pad.ints("pads"), strict=True))
    kernel = sweep.shape(node.inputs[1])[2:] if node.op == "Conv" else node.ints("kernel_shape")
    if node.op != "Conv" and any(amount >= kernel[axis % 2] for axis, amount in enumerate(pads)):
        return False  # A window of nothing but padding: runtimes refuse it.
    attrs = dict(node.attrs) | {"pads": pads}
    if node.op == "AveragePool":
        attrs["count_include_pad"] = 1
    return sweep.emit_as(node, node.op, (pad.inputs[0], *node.inputs[1:]), attrs)


def merge_slices(graph: Graph) -> Graph:
    """Turn Slices that divide an axis among them into one Split (the legacy exporter writes chunk() so)."""
    families: dict[tuple[str, int], list[Node]] = {}
    for node in graph.nodes:
        if node.op == "Slice":
            families.setdefault((node.inputs[0], node.int("axis")), []).append(node)
    splits: dict[str, Node] = {}
    merged: set[str] = set()
    for (source, axis), members in families.items():
        ordered = sorted(members, key=lambda node: node.int("start"))
        starts = [node.int("start") for node in ordered]
        ends = [node.int("end") for node in ordered]
        if len(ordered) < 2 or [0, *ends] != [*starts, graph.shapes[source][axis]]:
            continue
        attrs: dict[str, Attribute] = {
            "axis": axis,
            "split": tuple(end - start for start, end in zip(starts, ends, strict=True)),
        }
        outputs = tuple(node.output for node in ordered)
        # In the place of the first in execution order: every other one is later, so are all readers.
        first = members[0]
        splits[first.name] = Node(name=first.name, op="Split", inputs=(source,), outputs=outputs, attrs=attrs)
        merged.update(node.name for node in members)
    if not splits:
        return graph
    return graph.replace(
        nodes=[splits.get(node.name, node) for node in graph.nodes if node.name in splits or node.name not in merged]
    )


def global_average_pool(sweep: Sweep, node: Node) -> bool:
    """Rule: an AveragePool whose one window is the whole picture is GlobalAveragePool."""
    if node.op != "AveragePool" or any(node.ints("pads")):
        return False
    if node.ints("kernel_shape") != sweep.shape(node.inputs[0])[2:]:
        return False
    return sweep.emit_as(node, "GlobalAveragePool", node.inputs)


def simplify_views(sweep: Sweep, node: Node) -> bool:
    """Rule: drop what changes nothing, and spell reshapes to [1, rest] as Flatten."""
    if node.op == "Concat" and len(node.inputs) == 1:
        return sweep.forward(node.output, node.inputs[0])
    if node.op == "Pad" and not any(node.ints("pads")):
        return sweep.forward(node.output, node.inputs[0])
    if node.op == "ChannelShuffle" and node.int("groups") in (1, sweep.shape(node.output)[1]):
        return sweep.forward(node.output, node.inputs[0])
    if node.op not in ("Reshape", "Flatten", "Slice", "Transpose"):
        return False
    source = node.inputs[0]
    shape, target = sweep.shape(source), sweep.shape(node.output)
    if shape == target and (node.op != "Transpose" or node.ints("perm") == tuple(range(len(shape)))):
        return sweep.forward(node.output, source)
    if node.op == "Transpose":
        return _simplify_transpose(sweep, node)
    if node.op == "Slice":
        return False
    earlier = sweep.producer_if(source, "Reshape", "Flatten")
    if earlier is not None:  # The last view alone decides.
        source = earlier.inputs[0]
        if sweep.shape(source) == target:
            return sweep.forward(node.output, source)
    if len(target) == 2:
        return False if node.op == "Flatten" and source == node.inputs[0] else sweep.emit_as(node, "Flatten", (source,))
    return False if source == node.inputs[0] else sweep.emit_as(node, "Reshape", (source,), {"shape": target})


def _simplify_transpose(sweep: Sweep, node: Node) -> bool:
    """Merge with a Transpose before it; one that moves only axes of size 1 is a Reshape."""
    source, perm = node.inputs[0], node.ints("perm")
    earlier = sweep.producer_if(source, "Transpose")
    if earlier is not None:
        perm = tuple(earlier.ints("perm")[axis] for axis in perm)
        source = earlier.inputs[0]
        if perm == tuple(range(len(perm))):
            return sweep.forward(node.output, source)
    shape = sweep.shape(source)
    long_axes = [axis for axis in perm if shape[axis] != 1]
    if long_axes == sorted(long_axes):
        return sweep.emit_as(node, "Reshape", (source,), {"shape": tuple(shape[axis] for axis in perm)})
    return False if source == node.inputs[0] else sweep.emit_as(node, "Transpose", (source,), {"perm": perm})


def _bounds(node: Node) -> tuple[float, float]:
    if node.op == "Relu":
        return 0.0, math.inf
    return node.float("min"), node.float("max")


def _shifted_relu6(sweep: Sweep, name: str) -> str | None:
    """x, when `name` is Clip(x + 3, 0, 6)."""
    clip = sweep.producer_if(name, "Clip")
    if clip is None or (clip.float("min"), clip.float("max")) != (0.0, 6.0):
        return None
    shifted = sweep.producer_if(clip.inputs[0], "Add")
    if shifted is None:
        return None
    for first, second in (shifted.inputs, shifted.inputs[::-1]):
        offset = sweep.constants.get(second)
        if offset is not None and offset.size == 1 and float(offset.item()) == 3.0:
            return first
    return None


def _is_times_shifted_relu6(sweep: Sweep, node: Node) -> bool:
    """Whether a Mul is x * Clip(x + 3, 0, 6)."""
    first, second = node.inputs
    return first == _shifted_relu6(sweep, second) or second == _shifted_relu6(sweep, first)


def _is_standard_gate(node: Node) -> bool:
    return math.isclose(node.float("alpha"), 1 / 6, rel_tol=1e-6) and node.float("beta") == 0.5
