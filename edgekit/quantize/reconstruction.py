"""Post-training rounding of a whole network to few values per layer, at one price per bit for all layers.

Every layer is rounded on its own Hessian (`compensation`), but errors of all layers are measured in one currency, the
divergence of the network's answer, so that one number, `rate_weight`, decides how many bits each layer gets: layers
that the answer depends on get fine steps, others coarse ones and more zeros. At high rates the step that suits a price
per bit is known: a uniform grid costs D = h step^2 / 12 and R changes by a bit when the step doubles, so
`rate_weight = -dD/dR` gives `step^2 = 6 rate_weight / (h ln 2)` (Gish and Pierce 1968). The grids are tied to the
error's price h in this way, times `step_factor`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.curvature import LayerCurvature
from edgekit.core.errors import QuantizationError, UnsupportedOpError
from edgekit.core.graph import WEIGHTED_OPS, Array, Graph, Node
from edgekit.quantize.compensation import MAX_LEVEL, Problem, Rounded, column_order, inverse_factor, round_compensated

_HEADROOM = 17
"""Levels beyond the largest weight that compensation may use."""
_STEP_BITS = 8


class ReconstructionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a network is rounded.

    Args:
        rate_weight: Nats of divergence that a bit may cost, above 0: larger is smaller.
        step_factor: Steps, as a share of what high-rate theory gives. Flat around 1.
        bias_factor: The same for biases, which the weights make up for.
        damping: Share of a Hessian's mean diagonal that is added to it.
        trust: Share of an output's own sensitivity, the rest being the layer's mean. Few pictures tell single outputs
            apart badly, and those of the last layer (classes that no picture shows) not at all: it has the mean.
        num_rounds: Passes per layer, each with the rates that the last one led to.
    """

    rate_weight: float
    step_factor: float = 0.9
    bias_factor: float = 0.5
    damping: float = 0.003
    trust: float = 0.7
    num_rounds: int = 3


class RoundedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one layer.

    Args:
        name: Of its node.
        step: Distance of the weights' levels.
        num_levels: Distinct levels used.
        density: Share of weights that are not zero.
        entropy_bytes: Order-0 entropy of the levels.
        divergence: Expected share of the divergence per picture, in nats.
    """

    name: str
    step: float
    num_levels: int
    density: float
    entropy_bytes: float
    divergence: float


class Reconstruction(msgspec.Struct, frozen=True, kw_only=True):
    """A rounded network.

    Args:
        graph: Float graph whose weights are multiples of their layer's step, and zeros exact.
        layers: In execution order.
    """

    graph: Graph
    layers: tuple[RoundedLayer, ...]

    @property
    def entropy_bytes(self) -> float:
        """Order-0 entropy of all levels, without biases."""
        return sum(layer.entropy_bytes for layer in self.layers)

    @property
    def divergence(self) -> float:
        """Expected divergence per picture, in nats, to second order and with layers taken as independent."""
        return sum(layer.divergence for layer in self.layers)


def reconstruct(graph: Graph, curvatures: Mapping[str, LayerCurvature], config: ReconstructionConfig) -> Reconstruction:
    """Round every convolution and dense layer of a float graph.

    Args:
        graph: Canonical float graph.
        curvatures: By node name, from `edgekit.train.curvature` on the same network.
        config: How.

    Raises:
        QuantizationError: `rate_weight` or a factor is not above 0, a layer has no curvature or one of another shape,
            or a weight or a curvature is not finite; names the layer.
        UnsupportedOpError: A grouped convolution; names it.
    """
    if not (config.rate_weight > 0 and config.step_factor > 0 and config.bias_factor > 0):
        raise QuantizationError("rate_weight, step_factor and bias_factor: expected numbers above 0")
    nodes = [node for node in graph.nodes if node.op in WEIGHTED_OPS]
    constants: dict[str, Array] = dict(graph.constants)
    layers: list[RoundedLayer] = []
    for node in nodes:
        trust = 0.0 if node is nodes[-1] else config.trust
        problem = _problem(graph, node, curvatures.get(node.name), msgspec.structs.replace(config, trust=trust))
        rounded = round_compensated(problem, config.num_rounds)
        shape = graph.constants[node.inputs[1]].shape
        constants[node.inputs[1]] = (rounded.levels * problem.step).astype(np.float32).reshape(shape)
        if len(node.inputs) > 2:
            constants[node.inputs[2]] = (rounded.bias_levels * problem.bias_step).astype(np.float32)
        layers.append(_summary(node.name, problem.step, rounded))
    return Reconstruction(graph=graph.replace(constants=constants), layers=tuple(layers))


def _problem(graph: Graph, node: Node, curvature: LayerCurvature | None, config: ReconstructionConfig) -> Problem:
    if node.op == "Conv" and node.int("group") != 1:
        raise UnsupportedOpError(f"{node.name}: a convolution of {node.int('group')} groups has no one Hessian")
    weight = np.asarray(graph.constants[node.inputs[1]], np.float64)
    weight = weight.reshape(weight.shape[0], -1)
    has_bias = len(node.inputs) > 2
    bias = np.asarray(graph.constants[node.inputs[2]], np.float64) if has_bias else np.zeros(len(weight))
    weights = np.concatenate([weight, bias[:, None]], axis=1)
    curvature = _checked(node.name, weights, curvature)
    mean = float(curvature.sensitivity.mean())
    if mean <= 0:  # nothing depends on this layer; any positive price rounds it to zeros
        mean = float(np.finfo(np.float64).tiny) ** 0.25
    step = config.step_factor * _ideal_step(0.5 * mean * _conditional_energy(curvature.hessian, config), config)
    step = max(step, float(np.abs(weight).max(initial=0.0)) / (MAX_LEVEL - _HEADROOM), 1e-30)
    bias_step = config.bias_factor * _ideal_step(0.5 * mean, config)
    return Problem(
        weights=weights,
        hessian=curvature.hessian,
        sensitivity=config.trust * curvature.sensitivity + (1 - config.trust) * mean,
        damping=config.damping,
        step=_short(step),
        bias_step=float(2.0 ** np.floor(np.log2(bias_step))),
        rate_weight=config.rate_weight,
    )


def _checked(name: str, weights: npt.NDArray[np.float64], curvature: LayerCurvature | None) -> LayerCurvature:
    if curvature is None:
        raise QuantizationError(f"{name}: no curvature was measured for this layer")
    outputs, inputs = weights.shape
    if curvature.hessian.shape != (inputs, inputs) or curvature.sensitivity.shape != (outputs,):
        raise QuantizationError(
            f"{name}: expected a Hessian of {inputs} x {inputs} and {outputs} sensitivities, got "
            f"{list(curvature.hessian.shape)} and {list(curvature.sensitivity.shape)}"
        )
    if not all(np.isfinite(array).all() for array in (weights, curvature.hessian, curvature.sensitivity)):
        raise QuantizationError(f"{name}: weights or curvature are not all finite")
    return curvature


def _conditional_energy(hessian: npt.NDArray[np.float64], config: ReconstructionConfig) -> float:
    """Geometric mean over the inputs of 1 / U_jj^2: what an error costs after compensation; 1 without live inputs."""
    order = column_order(hessian)
    diagonal = np.diag(inverse_factor(hessian[np.ix_(order, order)], config.damping))[1:]
    live = np.diag(hessian)[order[1:]] > 0
    return float(np.exp(-2 * np.log(diagonal[live]).mean())) if live.any() else 1.0


def _ideal_step(price: float, config: ReconstructionConfig) -> float:
    return float(np.sqrt(6 * config.rate_weight / (np.log(2) * price)))


def _short(step: float) -> float:
    """A step of few mantissa bits, so that its multiples are exact in float32."""
    mantissa, exponent = np.frexp(step)
    return float(np.ldexp(np.ceil(mantissa * 2**_STEP_BITS), int(exponent) - _STEP_BITS))


def _summary(name: str, step: float, rounded: Rounded) -> RoundedLayer:
    return RoundedLayer(
        name=name,
        step=step,
        num_levels=len(np.unique(rounded.levels)),
        density=float((rounded.levels != 0).mean()),
        entropy_bytes=rounded.num_bits / 8,
        divergence=rounded.distortion,
    )
