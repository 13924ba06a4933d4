"""Patterns of transformers, which files spell as several operators and the hub graph as one: GELU and attention."""

from __future__ import annotations

import math

import numpy as np

from edgekit.core.graph import Node
from edgekit.export.sweep import Sweep

_SPLIT_HEADS = (0, 2, 1, 3)
_TURNED_HEADS = (0, 2, 3, 1)


def fuse_gelu(sweep: Sweep, node: Node) -> bool:
    """Rule: x * (1 + erf(x / sqrt 2)) / 2 is Gelu, in whichever order the three factors are multiplied."""
    if node.op != "Mul":
        return False
    factors = _factors(sweep, node)
    numbers = [factor for factor in (_number(sweep, name) for name in factors) if factor is not None]
    values = [name for name in factors if _number(sweep, name) is None]
    if len(numbers) != 1 or len(values) != 2 or not math.isclose(numbers[0], 0.5, rel_tol=1e-6):
        return False
    for source, raised in (values, values[::-1]):
        if _erf_source(sweep, raised) == source:
            return sweep.emit_as(node, "Gelu", (source,))
    return False


def _factors(sweep: Sweep, node: Node) -> list[str]:
    """The three factors of a product of products; fewer or more where it is none."""
    for first, second in (node.inputs, node.inputs[::-1]):
        inner = sweep.producer_if(first, "Mul")
        if inner is not None:
            return [*inner.inputs, second]
    return list(node.inputs)


def _number(sweep: Sweep, name: str) -> float | None:
    """The value of a constant of one element; None for everything else."""
    array = sweep.constants.get(name)
    return None if array is None or array.size != 1 else float(array.item())


def _erf_source(sweep: Sweep, name: str) -> str | None:
    """x, when `name` is 1 + erf(x / sqrt 2)."""
    raised = sweep.producer_if(name, "Add")
    if raised is None:
        return None
    for first, second in (raised.inputs, raised.inputs[::-1]):
        erf = sweep.producer_if(first, "Erf")
        scaled = None if erf is None else sweep.producer_if(erf.inputs[0], "Mul")
        if scaled is None or _number(sweep, second) != 1.0:
            continue
        factor = _number(sweep, scaled.inputs[1])
        if factor is not None and math.isclose(factor, math.sqrt(0.5), rel_tol=1e-5):
            return scaled.inputs[0]
    return None


def fuse_attention(sweep: Sweep, node: Node) -> bool:
    """Rule: softmax(scale * query @ key) @ value of heads that are cut apart before and put together behind it."""
    if node.op != "Reshape" or len(sweep.shape(node.output)) != 3:
        return False
    joined = _if_perm(sweep.producer_if(node.inputs[0], "Transpose"), _SPLIT_HEADS)
    mixed = None if joined is None else sweep.producer_if(joined.inputs[0], "MatMul")
    shares = None if mixed is None else sweep.producer_if(mixed.inputs[0], "Softmax")
    if mixed is None or shares is None or shares.int("axis") != 3:
        return False
    name, scale = _unscaled(sweep, shares.inputs[0])
    scores = sweep.producer_if(name, "MatMul")
    if scores is None:
        return False
    sources: list[str] = []
    for part, perm in (
        (scores.inputs[0], _SPLIT_HEADS),
        (scores.inputs[1], _TURNED_HEADS),
        (mixed.inputs[1], _SPLIT_HEADS),
    ):
        found = _whole(sweep, part, perm)
        if found is None:
            return False
        source, factor = found
        if part == mixed.inputs[1] and factor != 1.0:
            return False
        scale *= factor
        sources.append(source)
    _, heads, _, channels = sweep.shape(mixed.output)
    if sweep.shape(node.output)[2] != heads * channels:
        return False
    return sweep.emit_as(node, "Attention", sources, {"heads": heads, "scale": float(np.float32(scale))})


def _whole(sweep: Sweep, name: str, perm: tuple[int, ...]) -> tuple[str, float] | None:
    """(tokens with their heads side by side, factor) of one that was cut into heads; None where it was not."""
    name, outer = _unscaled(sweep, name)
    turned = _if_perm(sweep.producer_if(name, "Transpose"), perm)
    if turned is None:
        return None
    name, middle = _unscaled(sweep, turned.inputs[0])
    split = sweep.producer_if(name, "Reshape")
    if (
        split is None
        or len(sweep.shape(split.inputs[0])) != 3
        or sweep.shape(split.inputs[0])[1] != split.ints("shape")[1]
    ):
        return None
    source, inner = _unscaled(sweep, split.inputs[0])
    return source, outer * middle * inner


def _unscaled(sweep: Sweep, name: str) -> tuple[str, float]:
    """(x, factor) of x times a number; factor 1 of everything else."""
    product = sweep.producer_if(name, "Mul")
    if product is None:
        return name, 1.0
    factor = _number(sweep, product.inputs[1])
    return (name, 1.0) if factor is None else (product.inputs[0], factor)


def _if_perm(node: Node | None, perm: tuple[int, ...]) -> Node | None:
    return node if node is not None and node.ints("perm") == perm else None
