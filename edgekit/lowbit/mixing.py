"""Give every layer bits of its own: from a budget in bytes, or from the most that may be lost.

The table of errors and sizes (`quantize.probing`) is measured once. A budget is met by allocating, putting the layers
of the table together, packing the file and correcting (`bisection.fit_budget`); then the network is rounded in
earnest, each layer on quantized inputs, and if that file came out larger, the table's budget is lowered by as much.
A largest drop is held by bisection over the table's hull, on pictures that calibration did not see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from edgekit.core.errors import BudgetError
from edgekit.core.quant import QuantizedGraph
from edgekit.lowbit.calibrating import drawn, held_out, pictures_of
from edgekit.lowbit.rounder import Rounder, measured_drop
from edgekit.quantize.allocation import Allocation, allocate, smallest, sweep
from edgekit.quantize.bisection import fit_budget, hold_drop
from edgekit.quantize.outcome import LayerOutcome
from edgekit.quantize.probing import Table, TableConfig, measure_table

KB = 1000
NUM_HELD_OUT = 2000
MAX_PROBE_VALUES = 64 * 3 * 64 * 64
"""Pictures that layers are probed with are fewer where they are large: so many values in all, and at least 32."""
_FEWEST_HELD_OUT = 50
_MAX_ROUNDS = 4


class Mixed(msgspec.Struct, frozen=True, kw_only=True):
    """A network whose layers have bits of their own.

    Args:
        bits: Layer name -> grid bits.
        model: The network.
        outcomes: Of its layers.
        table: What was chosen from.
        budget_bytes: Asked for; None where a drop decided.
        drop: Points lost on held-out pictures by the choice, rounded layer by layer on their own; None for a budget.
        num_held_out: Those pictures.
        notes: What was done otherwise than one would expect.
    """

    bits: Mapping[str, int]
    model: QuantizedGraph
    outcomes: tuple[LayerOutcome, ...]
    table: Table
    budget_bytes: int | None = None
    drop: float | None = None
    num_held_out: int = 0
    notes: tuple[str, ...] = ()


def mix(rounder: Rounder) -> Mixed:
    """Choose bits as the recipe asks, and round.

    Raises:
        BudgetError: Even the fewest bits need more; carries the nearest size that can be reached.
        BarNotMetError: Even the most bits lose more than `verify.max_drop`.
        QuantizationError: As `round_network`.
    """
    table = _measure(rounder)
    if rounder.config.budget_kb is not None:
        return _within(rounder, table, math.floor(rounder.config.budget_kb * KB))
    return _as_small_as_allowed(rounder, table)


def _measure(rounder: Rounder) -> Table:
    layers = [layer.node.name for layer in rounder.start({}).plan.layers]
    methods = ("gptq",) if rounder.layerwise.methods else ()
    config = TableConfig(rounding=msgspec.structs.replace(rounder.layerwise, methods=methods))
    starts = {bits: rounder.start(dict.fromkeys(layers, bits)) for bits in config.bits}
    indices = drawn(rounder.job.calibration, rounder.config)
    size = math.prod(rounder.hub.graph.shapes[rounder.hub.graph.input])
    num_probes = max(32, MAX_PROBE_VALUES // size)
    probes = pictures_of(rounder.hub, rounder.job.calibration, indices[:num_probes])
    return measure_table(starts, rounder.pictures, probes, config, rounder.progress)


def _within(rounder: Rounder, table: Table, budget_bytes: int) -> Mixed:
    """Fill a budget with the least error, and stay below it when layers are rounded on quantized inputs."""
    least = smallest(table.options)
    allocation, size = _first_choice(rounder, table, budget_bytes), 0
    aim = allocation.size_bytes
    for num_left in reversed(range(_MAX_ROUNDS)):
        model, outcomes = rounder.round(allocation.bits)
        size = rounder.packed_bytes(model)
        if size <= budget_bytes:
            return Mixed(bits=allocation.bits, model=model, outcomes=outcomes, table=table, budget_bytes=budget_bytes)
        if allocation.bits == least.bits:
            break
        aim -= 1.2 * (size - budget_bytes)
        # Called unreachable only when the smallest network was made in earnest, and is too large.
        allocation = allocate(table.options, aim) if num_left > 1 and aim > least.size_bytes else least
    raise BudgetError(
        f"a budget of {budget_bytes / KB:g} kB cannot be met: the smallest file reached has {size:,} bytes",
        nearest=size,
        hint=f"ask for --budget-kb {math.ceil(size / KB)}, or prune or narrow the model first",
    )


def _first_choice(rounder: Rounder, table: Table, budget_bytes: int) -> Allocation:
    """What files of layers that were rounded on their own say; the smallest where even that one is too large."""
    try:
        fitted = fit_budget(
            table.options,
            budget_bytes,
            lambda allocation: rounder.packed_bytes(rounder.quick(table.decided, allocation.bits)),
        )
    except BudgetError:
        return smallest(table.options)
    return fitted.best.allocation


def _as_small_as_allowed(rounder: Rounder, table: Table) -> Mixed:
    """The smallest network of the table's hull that loses no more than the recipe allows."""
    indices = held_out(rounder.job.calibration, rounder.config, NUM_HELD_OUT)
    notes: tuple[str, ...] = ()
    if len(indices) < _FEWEST_HELD_OUT:
        indices = drawn(rounder.job.calibration, rounder.config)
        notes = (f"the drop was measured on the {len(indices)} calibration pictures: there are no others",)
    reference = rounder.float_logits(indices)
    labels = rounder.labels(indices)
    if labels is None:
        notes = (*notes, "there are no labels: the drop is the share of answers that changed")

    def lost(allocation: Allocation) -> float:
        return measured_drop(rounder.quick_logits(table.decided, allocation.bits, indices), reference, labels)

    held = hold_drop(sweep(table.options), rounder.job.recipe.verify.max_drop, lost)
    model, outcomes = rounder.round(held.best.allocation.bits)
    return Mixed(
        bits=held.best.allocation.bits,
        model=model,
        outcomes=outcomes,
        table=table,
        drop=held.best.drop_points,
        num_held_out=len(np.asarray(indices)),
        notes=notes,
    )
