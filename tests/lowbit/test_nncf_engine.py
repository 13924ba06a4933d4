"""NNCF as an engine: what is refused, and, where NNCF is installed, that its decisions come out in both formats."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.core.errors import MissingDependencyError, UsageError
from edgekit.core.recipe import QuantizeSection
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.stored import read_stored
from edgekit.export.tflite import write_tflite
from edgekit.lowbit.nncf_engine import quantize_with_nncf, require_nncf
from edgekit.quantize.calibration import calibrate
from edgekit.quantize.execute import run_float
from edgekit.quantize.reference import quantize_input, run_integer
from edgekit.verify.integers import first_difference
from graphs import GraphBuilder
from tflite_runs import CARD

HAS_NNCF = importlib.util.find_spec("nncf") is not None
needs_nncf = pytest.mark.skipif(not HAS_NNCF, reason="NNCF is not installed (pip install 'edgekit[nncf]')")


class Batches:
    """Pictures that can be read again and again."""

    def __init__(self, pictures: npt.NDArray[np.float32]) -> None:
        self.pictures = pictures
        self.rounds = 0

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        self.rounds += 1
        yield from np.array_split(self.pictures, 3)


class Steps:
    """Counts what a stage tells."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.done = 0
        self.ended = 0

    def begin(self, label: str, total: int) -> None:
        self.begun.append((label, total))

    def advance(self, amount: int = 1, status: str = "") -> None:
        del status
        self.done += amount

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("scheme", ["static_wi6_ai8", "static_wi4_ai8", "weight_only_wi8_afp32", "dynamic_wi8_ai8"])
def test_schemes_other_than_eight_bits_are_refused(scheme: str) -> None:
    with pytest.raises(UsageError, match="engine nncf makes 8 bits only") as caught:
        require_nncf(QuantizeSection(scheme=scheme))
    assert scheme in str(caught.value)
    assert "--bits 8" in (caught.value.hint or "")


def test_absent_nncf_is_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else object())

    with pytest.raises(MissingDependencyError) as caught:
        require_nncf(QuantizeSection())
    assert caught.value.exit_code == 3
    assert caught.value.hint == "pip install 'edgekit[nncf]'"


@needs_nncf
@pytest.mark.slow
def test_nncf_decides_and_both_formats_hold_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builder = GraphBuilder((1, 3, 16, 16), seed=1)
    stem = builder.relu6(builder.conv("input", 8, 3, stride=2, pads=1))
    deep = builder.relu6(builder.conv(stem, 8, 3, pads=1, group=8))
    joined = builder.concat([builder.binary("Add", stem, builder.conv(deep, 8, 1)), stem])
    pooled = builder.flatten(builder.global_pool(builder.shuffle(joined, 2)))
    graph = builder.build(builder.gemm(pooled, 5))
    pictures = np.random.default_rng(0).normal(0, 1, (30, 3, 16, 16)).astype(np.float32)
    batches, steps = Batches(pictures), Steps()
    calibration = calibrate(graph, [run_float(graph, pictures)])
    config = QuantizeSection(num_calibration=30)
    adopted = quantize_with_nncf(graph, batches, calibration, config, steps)

    assert capsys.readouterr().out == ""
    assert "openvino_telemetry" not in sys.modules
    assert (steps.begun, steps.done, steps.ended) == ([("nncf", 30)], 30, 1)
    assert adopted.num_exact == 4
    assert adopted.model.scheme == "static_wi8_ai8"
    assert any("left in float" in note for note in adopted.notes)  # the output
    write_onnx(adopted.model, tmp_path / "net.onnx", CARD)
    write_tflite(adopted.model, tmp_path / "net.tflite", CARD)
    stored = read_stored(tmp_path / "net.tflite")
    assert stored.float_layers == ()
    assert first_difference(adopted.model.graph, read_stored(tmp_path / "net.onnx"), stored) is None
    exact = run_float(graph, pictures)[graph.output]
    grid = adopted.model.activations[graph.output]
    found = grid.dequantize(run_integer(adopted.model, quantize_input(adopted.model, pictures))[graph.output])
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.98
