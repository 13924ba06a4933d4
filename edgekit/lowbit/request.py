"""What quantization below eight bits takes and gives."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection, Recipe
from edgekit.core.report import BitsReport
from edgekit.data.dataset import Source
from edgekit.data.reading import UnreadableLog
from edgekit.export.hub import HubModel
from edgekit.quantize.schemes import parse_scheme


class QuantizeJob(msgspec.Struct, frozen=True, kw_only=True):
    """One model to quantize.

    Args:
        recipe: Its sections quantize, qat and verify count.
        hub: The float model.
        calibration: Pictures to calibrate with.
        test: Pictures that the sweep of sizes is measured on.
        data: Dataset or folder of the run.
        one_scale: Layers whose channels share their values, and need one scale.
        work_dir: Where training keeps its resumable states.
        resume: Go on from what lies there.
        unreadable: Where pictures that cannot be read are logged.
    """

    recipe: Recipe
    hub: HubModel
    calibration: Source
    test: Source
    data: str
    one_scale: Collection[str] = ()
    work_dir: Path
    resume: bool = False
    unreadable: UnreadableLog = msgspec.field(default_factory=UnreadableLog)


class Quantized(msgspec.Struct, frozen=True, kw_only=True):
    """A quantized model.

    Args:
        hub: The float model that it was made from: equalized, where that was done.
        model: Its integers.
        section: The report's section on bits; None for plain rounding at eight bits.
    """

    hub: HubModel
    model: QuantizedGraph
    section: BitsReport | None = None


def is_plain(recipe: Recipe) -> bool:
    """Whether every weight goes to its nearest level at the scheme's bits, as eight bits need no more."""
    config = recipe.quantize
    scheme = parse_scheme(config.scheme)
    is_small = scheme.is_mixed or scheme.weight_bits < 8
    asks_more = config.rounding in ("gptq", "adaround") or config.equalize or recipe.qat.epochs > 0
    return config.engine == "edgekit" and not is_small and not asks_more


def as_fixed_bits(config: QuantizeSection) -> QuantizeSection:
    """The same without what is searched for: mixed bits become eight."""
    scheme = parse_scheme(config.scheme)
    fixed = msgspec.structs.replace(scheme, is_mixed=False).id
    return msgspec.structs.replace(config, scheme=fixed, budget_kb=None, pareto=0)
