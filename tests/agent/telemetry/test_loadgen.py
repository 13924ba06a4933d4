"""Percentile bounds beside MLPerf LoadGen's own, on the very samples that it measured."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.agent.telemetry.histogram import Histogram, bucket_of, upper_edge_ns
from edgekit.core.measurement import num_discardable, percentile_bound

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="mlcommons-loadgen has wheels for x86-64 alone"),
    pytest.mark.skipif(
        importlib.util.find_spec("mlperf_loadgen") is None, reason="mlcommons-loadgen is not installed (extra dev)"
    ),
]

# LoadGen asks a system of ours that answers after a random while, and writes its log and the trace of every sample.
PROGRAM = """
import random, sys, time
import mlperf_loadgen as lg

folder, scenario, n, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
wait = random.Random(seed)

def issue(samples):
    until = time.perf_counter() + min(wait.lognormvariate(-11.5, 0.8), 1e-3)
    while time.perf_counter() < until:
        pass
    lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

settings = lg.TestSettings()
settings.scenario = getattr(lg.TestScenario, scenario)
settings.mode = lg.TestMode.PerformanceOnly
settings.min_query_count = settings.max_query_count = n
settings.min_duration_ms = 0
settings.multi_stream_samples_per_query = 1
log = lg.LogSettings()
log.enable_trace = True
output = lg.LogOutputSettings()
output.outdir = folder
output.copy_summary_to_stdout = False
log.log_output = output
sut = lg.ConstructSUT(issue, lambda: None)
qsl = lg.ConstructQSL(16, 16, lambda _: None, lambda _: None)
lg.StartTestWithLogSettings(sut, qsl, settings, log)
lg.DestroyQSL(qsl)
lg.DestroySUT(sut)
"""


def run_loadgen(folder: Path, scenario: str, n: int) -> tuple[list[int], dict[str, int], str]:
    """Samples in nanoseconds as LoadGen measured them, its early-stopping estimates, and what it says about them."""
    command = [sys.executable, "-c", PROGRAM, str(folder), scenario, str(n), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    trace = (folder / "mlperf_log_trace.json").read_text(encoding="utf-8")
    samples = [int(value) for value in re.findall(r'"issue_start_ns":0,"complete_ns":(\d+)', trace)]
    lines = (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines if line.startswith(":::MLLOG ")]
    estimates = {entry["key"]: entry["value"] for entry in entries if entry["key"].startswith("early_stopping_latency")}
    said = next(str(entry["value"]) for entry in entries if entry["key"] == "early_stopping_result")
    assert len(samples) == n
    return samples, estimates, said


def recorded(samples: list[int]) -> Histogram:
    histogram = Histogram()
    for sample in samples:
        histogram.record(sample)
    return histogram


def assert_same(samples: list[int], percentile: float, estimate: int) -> None:
    assert percentile_bound(samples, percentile) == estimate
    told = recorded(samples).percentile_bound_ns(percentile)
    assert told == min(upper_edge_ns(bucket_of(estimate)), max(samples))
    assert told is not None
    assert estimate <= told <= estimate * (1 + 1 / 128) + 1


@pytest.mark.parametrize("n", [64, 111, 661, 662, 1000, 6636, 20_000])
def test_single_stream_bounds_are_those_of_loadgen(tmp_path: Path, n: int) -> None:
    samples, estimates, said = run_loadgen(tmp_path, "SingleStream", n)

    assert_same(samples, 0.90, estimates["early_stopping_latency_ss"])
    assert f"Would discard {num_discardable(n, 0.90) - 1} highest" in said
    if n >= 662:
        assert_same(samples, 0.99, estimates["early_stopping_latency_ms"])
    else:
        assert percentile_bound(samples, 0.99) is None
        assert "Not enough queries processed for 99" in said


@pytest.mark.parametrize("n", [662, 5000])
def test_multi_stream_bound_is_that_of_loadgen(tmp_path: Path, n: int) -> None:
    samples, estimates, said = run_loadgen(tmp_path, "MultiStream", n)

    assert_same(samples, 0.99, estimates["early_stopping_latency_ms"])
    assert f"Would discard {num_discardable(n, 0.99) - 1} highest" in said


def test_no_bound_where_loadgen_gives_none(tmp_path: Path) -> None:
    samples, _, said = run_loadgen(tmp_path, "SingleStream", 63)

    assert "Only processed 63 queries" in said
    assert "at least 64 queries" in said
    assert percentile_bound(samples, 0.90) is None
    assert recorded(samples).percentile_bound_ns(0.90) is None
