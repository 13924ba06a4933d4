"""NNCF's post-training quantization (https://github.com/openvinotoolkit/nncf) as an engine, 8 bits.

The float graph goes to NNCF as an ONNX file in memory; its QDQ model comes back as a `QuantizedGraph`, so export,
verification and report are the same as of our own. NNCF is asked for what our formats can say: symmetric weights per
output channel, asymmetric activations with one grid each.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import MissingDependencyError, QuantizationError, UsageError
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import QuantizeSection
from edgekit.export.onnx_writer import build_onnx
from edgekit.lowbit.foreign_grids import Adopted, adopt
from edgekit.lowbit.qdq_reader import read_qdq
from edgekit.quantize.calibration import Calibration
from edgekit.quantize.plan import plan_quantization
from edgekit.quantize.ptq import choose_activation_grids, unshare_constants
from edgekit.quantize.schemes import parse_scheme

INSTALL_HINT = "pip install 'edgekit[nncf]'"
NNCF_BITS = 8


def require_nncf(config: QuantizeSection) -> None:
    """Check, before anything takes time, that NNCF can make a scheme and is here.

    Raises:
        UsageError: Not static, or not 8 bits.
        MissingDependencyError: NNCF is not installed.
    """
    scheme = parse_scheme(config.scheme)
    if scheme.mode != "static" or not scheme.is_supported or scheme.weight_bits != NNCF_BITS:
        raise UsageError(
            f"engine nncf makes {NNCF_BITS} bits only (static_wi8_ai8), got {scheme.id}",
            hint="use --bits 8, or leave --engine out: edgekit's own makes 4 to 8 bits",
        )
    if importlib.util.find_spec("nncf") is None:
        raise MissingDependencyError("engine nncf: NNCF is not installed", hint=INSTALL_HINT)


def quantize_with_nncf(
    graph: Graph,
    inputs: Iterable[npt.NDArray[np.float32]],
    calibration: Calibration,
    config: QuantizeSection,
    progress: Progress | None = None,
) -> Adopted:
    """Quantize a float graph with NNCF.

    Args:
        graph: Canonical float graph.
        inputs: Normalized pictures, batches of [n, C, H, W]; iterated more than once.
        calibration: From `calibrate` on the same pictures: grids of activations that NNCF leaves in float, as it does
            with the output.
        config: Scheme, number of calibration pictures, bias correction, reduced range.
        progress: Shows how many pictures NNCF has seen.

    Raises:
        UsageError, MissingDependencyError: As `require_nncf`.
        UnsupportedOpError: An operator without an integer form; names the node.
        QuantizationError: NNCF gives up.
    """
    require_nncf(config)
    graph = unshare_constants(graph)
    fallback = choose_activation_grids(plan_quantization(graph), calibration, config)
    quantized = _run_nncf(graph, _Pictures(graph.input, inputs, progress or Silent()), config)
    return adopt(graph, read_qdq(quantized, graph.activations()), fallback, scheme=config.scheme)


class _Pictures:
    """Pictures one by one, as NNCF asks for them again and again; the first round is shown."""

    def __init__(self, name: str, inputs: Iterable[npt.NDArray[np.float32]], progress: Progress) -> None:
        self._name = name
        self._inputs = inputs
        self.progress: Progress = progress

    def __iter__(self) -> Iterator[Mapping[str, npt.NDArray[np.float32]]]:
        shown, self.progress = self.progress, Silent()
        for batch in self._inputs:
            for index in range(len(batch)):
                shown.advance()
                yield {self._name: np.ascontiguousarray(batch[index : index + 1])}


def _run_nncf(graph: Graph, pictures: _Pictures, config: QuantizeSection) -> onnx.ModelProto:
    model = build_onnx(graph, _card(graph), dynamic_batch=True)
    progress = pictures.progress
    progress.begin("nncf", config.num_calibration)
    try:
        with _quiet() as nncf:
            try:
                return nncf.quantize(model, nncf.Dataset(pictures), **_settings(nncf, config))
            except (*_errors(nncf), RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                raise QuantizationError(
                    f"{graph.name}: NNCF cannot quantize this model: {reason[0]}",
                    hint="leave --engine out to quantize with edgekit's own",
                ) from error
    finally:
        progress.end()


def _errors(nncf: Any) -> list[type[Exception]]:  # noqa: ANN401 - an optional module
    """The errors of NNCF, which have no common base of their own."""
    return [one for one in vars(nncf.errors).values() if isinstance(one, type) and issubclass(one, Exception)]


def _settings(nncf: Any, config: QuantizeSection) -> dict[str, Any]:  # noqa: ANN401 - an optional module
    """Keyword arguments of `nncf.quantize`. Half of the weights' range is NNCF's way around saturating AVX2 sums."""
    parameters = nncf.quantization.advanced_parameters
    fix = parameters.OverflowFix
    return {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": config.num_calibration,
        "fast_bias_correction": True,
        "advanced_parameters": nncf.AdvancedQuantizationParameters(
            overflow_fix=fix.ENABLE if config.reduce_range else fix.DISABLE,
            disable_bias_correction=not config.bias_correction,
            activations_quantization_params=parameters.QuantizationParameters(per_channel=False),
        ),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """NNCF, with stdout kept clean (it draws bars and logs there) and without its telemetry.

    NNCF reports its use to its makers unless the module for that is absent, so it is absent here.
    """
    absent = "openvino_telemetry"
    had = sys.modules.get(absent)
    with contextlib.redirect_stdout(sys.stderr):
        if "nncf" not in sys.modules:
            sys.modules[absent] = None  # type: ignore[assignment] - Python's way to say that an import fails
        try:
            nncf: Any = importlib.import_module("nncf")
        except ImportError as error:
            raise MissingDependencyError(f"engine nncf: NNCF does not load: {error}", hint=INSTALL_HINT) from error
        finally:
            if had is not None:
                sys.modules[absent] = had
            elif sys.modules.get(absent, absent) is None:
                del sys.modules[absent]
        nncf.set_log_level(logging.ERROR)
        yield nncf


def _card(graph: Graph) -> ModelCard:
    """A card for a file that nobody else sees: the pictures come normalized."""
    _, channels, height, width = graph.shapes[graph.input]
    preprocess = PreprocessSpec(
        input_size=(height, width), num_channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    return ModelCard(model=graph.name, scheme="float", labels=(), preprocess=preprocess)
