"""The agent's benchmark measures what it says, tried on the smallest runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent_usage import children, read_usage

REPOSITORY = Path(__file__).resolve().parents[2]


def run_tool(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, str(REPOSITORY / "tools" / arguments[0]), *map(str, arguments[1:])]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=False, capture_output=True, env=environ)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_usage_counts_processor_time_children_and_descriptors_of_this_process(tmp_path: Path) -> None:
    before = read_usage(())
    with (tmp_path / "open").open("w"), subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as child:
        while time.process_time() < before.cpu_s + 0.05:
            pass
        after = read_usage((child.pid,))
        assert children(os.getpid()).count(child.pid) == 1
        child.communicate(b"\n")
    assert after.cpu_s >= before.cpu_s + 0.05
    assert after.num_children == before.num_children + 1
    assert after.num_descriptors > before.num_descriptors
    assert 0 < after.pss_mib <= after.rss_mib


def test_usage_of_a_process_that_is_gone_is_that_of_this_one_alone() -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    assert read_usage((int(gone.stdout),)).rss_mib == pytest.approx(read_usage(()).rss_mib, rel=0.2)


@pytest.mark.slow
def test_worker_measures_an_agent_and_its_bare_loop(tmp_path: Path) -> None:
    agent = run_tool("agent_worker.py", "burn:1", "synthetic:320x240@0", "--answers", "40", "--state", tmp_path)
    assert agent["answers"] == 40
    # one millisecond is burnt for each answer, and something comes on top
    assert agent["cpu_ms_per_answer"] > 1
    assert agent["status"]["num_answers"] >= 70
    assert agent["inference_p50_ms"] >= 1


@pytest.mark.slow
def test_worker_reads_the_age_painted_into_pictures_when_inference_is_slow(tmp_path: Path) -> None:
    slow = run_tool(
        "agent_worker.py", "burn:0", "synthetic:320x240@30", "--answers", "5", "--delay-ms", "60", "--state", tmp_path
    )
    assert slow["painted_n"] == 5
    assert slow["painted_age_p50_ms"] >= 60


@pytest.mark.slow
def test_losses_are_counted_and_leave_nothing_behind(tmp_path: Path) -> None:
    model = tmp_path / "any.tflite"
    model.touch()
    figures = run_tool("bench_agent.py", "--quick", "--only", "losses", "--cycles", "3", "--model", model)
    assert figures["loss_drop_cycles"] == 3
    assert figures["loss_leaked_descriptors"] == 0
    assert figures["loss_leaked_children"] == 0
    assert figures["loss_seen_max_s"] > 0
