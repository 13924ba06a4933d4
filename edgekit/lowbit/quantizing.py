"""Quantize a float model as its recipe asks: plainly, by another engine, or below eight bits.

The order below eight bits: balance channels (where asked for), calibrate, choose grids, give bits to layers, round them
one after the other on quantized inputs, train on the result (where asked for), sweep sizes (where asked for).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import EdgekitError, OutputError, UsageError
from edgekit.core.graph import Graph
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import Recipe
from edgekit.core.report import BitsReport, BitsRow, ParetoPoint
from edgekit.core.stages import Watch
from edgekit.data.opening import open_at_hand
from edgekit.export.tflite_nibbles import int4_layers
from edgekit.lowbit.balancing import balance
from edgekit.lowbit.calibrating import drawn, labelled, run_calibration
from edgekit.lowbit.mixing import Mixed, mix
from edgekit.lowbit.nncf_engine import quantize_with_nncf, require_nncf
from edgekit.lowbit.qat import QatRequest, train_quantized
from edgekit.lowbit.reporting import bits_rows
from edgekit.lowbit.request import Quantized, QuantizeJob, is_plain
from edgekit.lowbit.rounder import Rounder, forget_rounding
from edgekit.lowbit.sweeping import sweep_sizes
from edgekit.quantize.bit_plan import WIDE_BITS, BitPlan, plan_bits
from edgekit.quantize.dynamic import quantize_dynamic
from edgekit.quantize.ptq import quantize_static
from edgekit.quantize.schemes import Scheme, parse_scheme, require_supported
from edgekit.verify.matching import match_classes

INT4_NOTE = (
    "int4 tensors make the .tflite smaller, not the .ekz, and no inference faster: on x86, LiteRT took 1.5 times "
    "as long as for float and 2.7 times as long as for int8 (docs/low-bits.md)"
)
"""What `--compute int4` brings, as measured."""


def quantize(job: QuantizeJob, watch: Watch) -> Quantized:
    """Quantize a model.

    Args:
        job: The model, its pictures, its recipe.
        watch: Clock, progress, lines for people.

    Raises:
        BudgetError, BarNotMetError: As `mixing.mix`.
        UsageError: A recipe that asks for what does not go together.
        MissingDependencyError: The engine is not installed.
        QuantizationError: Values that are not finite, no pictures.
    """
    check_recipe(job.recipe)
    if parse_scheme(job.recipe.quantize.scheme).mode == "dynamic":
        return _dynamic(job, watch)
    if is_plain(job.recipe):
        return _plain(job, watch)
    if job.recipe.quantize.engine == "nncf":
        return _by_nncf(job, watch)
    try:
        return _few_bits(job, watch)
    except EdgekitError as error:
        if error.exit_code != OutputError.exit_code:  # with free space it goes on, anything else starts anew
            forget_rounding(job.work_dir)
        raise


def check_recipe(recipe: Recipe) -> None:
    """Refuse what does not go together, before anything takes time.

    Raises:
        UsageError: A budget or a sweep without mixed bits, INT4 without layers of 4 bits, shared weights on small
            grids, an engine that cannot.
        MissingDependencyError: The engine is not installed.
    """
    config = recipe.quantize
    scheme = parse_scheme(config.scheme)
    require_supported(scheme)
    if scheme.mode == "dynamic":
        _require_dynamic(recipe, scheme)
    if config.engine == "nncf":
        require_nncf(config)
        if recipe.qat.epochs:
            raise UsageError("engine nncf does not train: leave out --qat, or --engine nncf")
    if recipe.share.is_asked and not is_plain(recipe):
        raise UsageError(
            "weights that are shared keep their few values, and cannot go to grids of fewer bits, too",
            hint="use --bits 8 with --share, or fewer --bits without it",
        )
    if not scheme.is_mixed and (config.budget_kb is not None or config.pareto):
        key = "budget_kb" if config.budget_kb is not None else "pareto"
        message = f"quantize.{key} chooses the bits of every layer: it needs mixed bits"
        raise UsageError(message, hint="use --bits mixed")
    if config.compute == "int4" and not scheme.is_mixed and scheme.weight_bits > 4:
        raise UsageError(
            f"quantize.compute: int4 needs layers of 4 bits, and {scheme.id} makes none",
            hint="use --bits 4 --compute int4, or mixed bits",
        )


def _require_dynamic(recipe: Recipe, scheme: Scheme) -> None:
    """Refuse what needs grids of activations, where a scheme has none."""
    config = recipe.quantize
    refused = {
        "qat": recipe.qat.epochs > 0,
        "quantize.engine": config.engine != "edgekit",
        "quantize.compute": config.compute != "int8",
        "quantize.equalize": config.equalize,
        "quantize.rounding": config.rounding in ("gptq", "adaround"),
    }
    asked = next((key for key, is_asked in refused.items() if is_asked), None)
    if asked is not None:
        raise UsageError(
            f"{asked} works on static integers, and {scheme.id} has none",
            hint="leave it out: dynamic schemes round weights to the nearest level",
        )


def _plain(job: QuantizeJob, watch: Watch) -> Quantized:
    config = job.recipe.quantize
    with watch.clock.stage("calibrate"):
        calibration = run_calibration(job.hub, job.calibration, config, watch.progress, job.unreadable)
    with watch.clock.stage("quantize"):
        model = quantize_static(job.hub.graph, calibration, config, one_scale=job.one_scale)
    return Quantized(hub=job.hub, model=model)


def _dynamic(job: QuantizeJob, watch: Watch) -> Quantized:
    config = job.recipe.quantize
    with watch.clock.stage("quantize"):
        model = quantize_dynamic(job.hub.graph, config, one_scale=job.one_scale)
    if parse_scheme(config.scheme).weight_bits == WIDE_BITS:
        return Quantized(hub=job.hub, model=model)
    section = _section(job, model, bits_rows(model, (), {}, "nearest"), ())
    return Quantized(hub=job.hub, model=model, section=msgspec.structs.replace(section, num_calibration=0))


def _by_nncf(job: QuantizeJob, watch: Watch) -> Quantized:
    config = job.recipe.quantize
    with watch.clock.stage("calibrate"):
        calibration = run_calibration(job.hub, job.calibration, config, watch.progress, job.unreadable)
    with watch.clock.stage("quantize"):
        adopted = quantize_with_nncf(job.hub.graph, _Inputs(job), calibration, config, watch.progress)
    rows = bits_rows(adopted.model, (), {}, "nncf")
    return Quantized(hub=job.hub, model=adopted.model, section=_section(job, adopted.model, rows, adopted.notes))


def _few_bits(job: QuantizeJob, watch: Watch) -> Quantized:
    config = job.recipe.quantize
    hub = job.hub
    with watch.clock.stage("calibrate"):
        if config.equalize:
            hub = balance(hub, job.calibration, config, watch.progress)
        calibration = run_calibration(hub, job.calibration, config, watch.progress, job.unreadable)
    rounder = Rounder(job, hub, calibration, watch.progress)
    scheme = parse_scheme(config.scheme)
    mixed: Mixed | None = None
    plan = BitPlan(bits={}, reasons={})
    with watch.clock.stage("quantize"):
        if scheme.is_mixed:
            mixed = mix(rounder)
            model, outcomes = mixed.model, mixed.outcomes
        else:
            plan = plan_bits(hub.graph, scheme.weight_bits, config.wide_layers)
            _tell(plan, watch)
            model, outcomes = rounder.round(plan.bits)
    rows = bits_rows(model, outcomes, plan.reasons)
    notes = mixed.notes if mixed else ()
    if job.recipe.qat.epochs:
        with watch.clock.stage("train"):
            trained, more = _train(job, hub.graph, model, watch, keeps_zeros=rounder.layerwise.keeps_zeros)
        if mixed is not None and _is_above(rounder, trained, mixed.budget_bytes):
            more = (*more, "training made the file larger than the budget: the network is as it was before")
        else:
            model, rows = trained, bits_rows(trained, outcomes, plan.reasons, "qat")
        notes = (*notes, *more)
    pareto: tuple[ParetoPoint, ...] = ()
    if config.pareto and mixed is not None:
        with watch.clock.stage("sweep"):
            pareto = sweep_sizes(rounder, msgspec.structs.replace(mixed, model=model))
    if config.compute == "int4":
        notes = (*notes, INT4_NOTE)
        watch.tell(INT4_NOTE)
    section = _section(job, model, rows, notes)
    section = msgspec.structs.replace(section, pareto=pareto, equalized=hub is not job.hub)
    return Quantized(hub=hub, model=model, section=section if mixed is None else _with_choice(section, mixed, job))


def _is_above(rounder: Rounder, model: QuantizedGraph, budget_bytes: int | None) -> bool:
    return budget_bytes is not None and rounder.packed_bytes(model) > budget_bytes


def _tell(plan: BitPlan, watch: Watch) -> None:
    if plan.reasons:
        reasons = list(plan.reasons.values())
        counted = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
        watch.tell(f"plan: {len(plan.reasons)} of {len(plan.bits)} layers keep 8 bits ({counted})")


def _train(
    job: QuantizeJob, graph: Graph, model: QuantizedGraph, watch: Watch, *, keeps_zeros: bool
) -> tuple[QuantizedGraph, tuple[str, ...]]:
    """Quantization-aware training from a rounded network."""
    config = job.recipe.qat
    if config.keep_zeros is None:
        config = msgspec.structs.replace(config, keep_zeros=keeps_zeros or job.recipe.quantize.budget_kb is not None)
    # They need no labels as long as the float network alone is the teacher; those of calibration help already.
    at_hand = open_at_hand((job.data, job.hub.dataset), "train")
    request = QatRequest(
        start=model,
        teacher=graph,
        spec=job.hub.card.preprocess,
        pictures=match_classes(next((pictures for _, pictures in at_hand), job.calibration), job.hub.card.labels),
        config=config,
        augment=job.recipe.augment,
        work_dir=job.work_dir / "qat",
        resume=job.resume,
    )
    trained = train_quantized(request, watch.progress)
    watch.tell(
        f"trained {job.recipe.qat.epochs} epochs: {trained.start_distance:.4g} nats from float before, "
        f"{trained.distance:.4g} after"
    )
    return trained.quantized, trained.notes


def _section(job: QuantizeJob, model: QuantizedGraph, rows: tuple[BitsRow, ...], notes: tuple[str, ...]) -> BitsReport:
    config = job.recipe.quantize
    scheme = parse_scheme(config.scheme)
    return BitsReport(
        asked="mixed" if scheme.is_mixed else str(scheme.weight_bits),
        budget_bytes=None,
        max_drop=None,
        drop=None,
        num_held_out=0,
        equalized=False,
        num_calibration=len(drawn(job.calibration, config)),
        engine=config.engine,
        compute=config.compute if int4_layers(model) else "int8",
        num_epochs=job.recipe.qat.epochs,
        layers=rows,
        notes=notes,
    )


def _with_choice(section: BitsReport, mixed: Mixed, job: QuantizeJob) -> BitsReport:
    return msgspec.structs.replace(
        section,
        budget_bytes=mixed.budget_bytes,
        max_drop=job.recipe.verify.max_drop if mixed.budget_bytes is None else None,
        drop=mixed.drop,
        num_held_out=mixed.num_held_out,
    )


class _Inputs:
    """Normalized calibration pictures, again and again."""

    def __init__(self, job: QuantizeJob) -> None:
        self._job = job

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        job = self._job
        for batch, _ in labelled(job.hub, job.calibration, drawn(job.calibration, job.recipe.quantize)):
            yield np.ascontiguousarray(batch.numpy())
