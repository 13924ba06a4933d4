from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.core.progress import Silent
from edgekit.runtime import benchmark as benchmarking
from edgekit.runtime.benchmark import BenchmarkSettings, benchmark, compare, ratio
from edgekit.runtime.probe import peak_rss_mib, probe


def quick(num_queries: int = 20, **changes: object) -> BenchmarkSettings:
    return BenchmarkSettings(num_queries=num_queries, num_warmup=3, isolate=False, **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("num_queries", "has_p90", "has_p99"),
    [(63, False, False), (64, True, False), (661, True, False), (662, True, True)],
)
def test_benchmark_prints_only_the_percentiles_that_its_queries_prove(
    tiny_models: dict[str, Path], num_queries: int, has_p90: bool, has_p99: bool
) -> None:
    latency = benchmark(tiny_models["int8.tflite"], quick(num_queries))
    assert latency.n == num_queries
    assert (latency.p90_ms is not None, latency.p99_ms is not None) == (has_p90, has_p99)
    assert (
        0 < latency.p50_ms <= (latency.p90_ms or latency.p50_ms) <= (latency.p99_ms or latency.p90_ms or latency.p50_ms)
    )


def test_benchmark_states_its_conditions(tiny_models: dict[str, Path]) -> None:
    latency = benchmark(tiny_models["float.onnx"], quick(num_threads=2), board="my_board")
    assert latency.file == "float.onnx"
    assert latency.runtime.startswith("onnxruntime ")
    assert (latency.board, latency.num_threads, latency.num_warmup) == ("my_board", 2, 3)
    assert latency.cpu_p50_ms > 0
    assert latency.load_ms > 0
    assert latency.first_ms > 0
    assert latency.peak_rss_mib is None


def test_compare_takes_turns_and_gives_every_file_the_same_number_of_queries(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    run_round = benchmarking._Contestant.run_round

    def spy(self: benchmarking._Contestant, num_queries: int) -> None:
        turns.append(self.interpreter.file_path.stem)
        run_round(self, num_queries)

    monkeypatch.setattr(benchmarking._Contestant, "run_round", spy)
    first, second = compare([tiny_models["float.tflite"], tiny_models["int8.tflite"]], quick(64))
    assert first.n == second.n == 64
    assert turns[:4] == ["float", "int8", "int8", "float"]


def test_compare_goes_on_until_min_seconds_are_over(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=1_000_000)
    monkeypatch.setattr(benchmarking.time, "perf_counter_ns", lambda: next(ticks))  # every query takes 1 ms
    (latency,) = compare([tiny_models["int8.tflite"]], quick(1, min_seconds=0.02))
    assert latency.n == 20
    assert latency.p50_ms == 1.0


def test_compare_stops_after_one_round_when_max_seconds_are_over(tiny_models: dict[str, Path]) -> None:
    (latency,) = compare([tiny_models["int8.tflite"]], quick(10**9, max_seconds=1e-9))
    assert 1 <= latency.n <= 16


class Steps(Silent):
    def __init__(self) -> None:
        self.amounts: list[int] = []

    def advance(self, amount: int = 1, status: str = "") -> None:
        super().advance(amount, status)
        self.amounts.append(amount)


def test_compare_reports_progress_up_to_the_end(tiny_models: dict[str, Path]) -> None:
    steps = Steps()
    compare([tiny_models["int8.tflite"]], quick(40), progress=steps)
    assert min(steps.amounts) > 0
    assert sum(steps.amounts) == 40


def test_compare_measures_peak_memory_in_a_process_per_file(tiny_models: dict[str, Path]) -> None:
    ballast = bytearray(300 * 2**20)  # in this process: must not count
    ballast[::4096] = b"\1" * len(ballast[::4096])
    settings = BenchmarkSettings(num_queries=2, num_warmup=2)
    (latency,) = compare([tiny_models["int8.tflite"]], settings)
    assert latency.peak_rss_mib is not None
    assert 5 < latency.peak_rss_mib < 200
    assert peak_rss_mib() > 300
    del ballast


def test_compare_goes_on_without_peak_memory_when_no_child_can_be_started(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    (latency,) = compare([tiny_models["int8.tflite"]], BenchmarkSettings(num_queries=2, num_warmup=2))
    assert latency.peak_rss_mib is None
    assert latency.load_ms > 0


def test_ratio_compares_medians(tiny_models: dict[str, Path]) -> None:
    first, second = compare([tiny_models["float.tflite"], tiny_models["float.tflite"]], quick())
    compared = ratio(first, second)
    assert compared.wall == first.p50_ms / second.p50_ms
    assert compared.cpu == first.cpu_p50_ms / second.cpu_p50_ms


@pytest.mark.parametrize(
    "settings", [BenchmarkSettings(num_queries=0), BenchmarkSettings(max_seconds=0), BenchmarkSettings(num_warmup=0)]
)
def test_benchmark_refuses_settings_that_measure_nothing(
    tiny_models: dict[str, Path], settings: BenchmarkSettings
) -> None:
    with pytest.raises(UsageError, match="expected more than 0"):
        benchmark(tiny_models["int8.tflite"], settings)


def test_compare_refuses_an_empty_list() -> None:
    with pytest.raises(UsageError, match="no file"):
        compare([])


def test_benchmark_raises_integrity_error_when_the_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"garbage")
    with pytest.raises(IntegrityError):
        benchmark(tmp_path / "x.tflite", quick())


class TestProbe:
    def test_probe_measures_in_this_process(self, tiny_models: dict[str, Path]) -> None:
        result = probe(tiny_models["float.onnx"])
        assert result.runtime.startswith("onnxruntime")
        assert min(result.load_ms, result.first_ms, result.peak_rss_mib) > 0

    def test_probe_prints_one_json_document(self, tiny_models: dict[str, Path], repository: Path) -> None:
        done = self._run(str(tiny_models["int8.onnx"]), "--threads", "2", "--inexact", folder=repository)
        assert done.returncode == 0
        assert set(json.loads(done.stdout)) == {"runtime", "load_ms", "first_ms", "peak_rss_mib"}

    def test_probe_exits_with_the_errors_code_and_message(self, tmp_path: Path, repository: Path) -> None:
        done = self._run(str(tmp_path / "absent.tflite"), folder=repository)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "no model file at" in done.stderr
        assert "Traceback" not in done.stderr

    def test_peak_rss_falls_back_to_rusage_when_there_is_no_proc(self, tmp_path: Path) -> None:
        assert peak_rss_mib(tmp_path / "absent") > 5

    @staticmethod
    def _run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgekit.runtime.probe", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
