"""How a layer's weights are rounded, as data."""

from __future__ import annotations

import msgspec

from edgekit.quantize.layer_problem import RoundingMethod


class LearningConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How rounding is learned (Nagel et al. 2020, arXiv:2004.10568).

    Args:
        num_steps: Of Adam.
        learning_rate: Of Adam, for the variable under the sigmoid.
        regularization: Weight of eq. 24 against an output error in units of a squared step.
        warm_up: Share of the steps without regularizer.
        beta_start: Exponent of the regularizer at first: only what is nearly decided is pushed.
        beta_end: At last: everything is pushed.
        start: How far towards the start's answer a weight begins, 0.5 to 1.
    """

    num_steps: int = 200
    learning_rate: float = 0.15
    regularization: float = 1.0
    warm_up: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0
    start: float = 0.9


class RoundingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a layer is rounded.

    Args:
        methods: What `round_best` tries, besides the nearest levels.
        rate_weight: Price of a bit, in units of the error; 0 asks for the least error.
        damping: Added to the diagonal of the Hessian for choosing, as a share of its mean: few pictures tell
            correlations of inputs badly.
        num_rounds: Passes of compensation where bits have a price, each with the rates that the last one led to.
        num_sweeps: Passes of coordinate descent after it, at most.
        scale_factors: Multiples of the scales that the weights alone suggest; each output takes the best of them after
            compensation (all outputs the same where there is one scale).
        one_scale: One scale for the whole layer.
        mantissa_bits: Significant bits of a scale; None for all of float64's.
        learning: How rounding is learned.
    """

    methods: tuple[RoundingMethod, ...] = ("gptq",)
    rate_weight: float = 0.0
    damping: float = 0.01
    num_rounds: int = 2
    num_sweeps: int = 4
    scale_factors: tuple[float, ...] = (1.0, 0.85, 1.15)
    one_scale: bool = False
    mantissa_bits: int | None = None
    learning: LearningConfig = LearningConfig()


DEFAULT_ROUNDING = RoundingConfig()
