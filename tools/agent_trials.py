"""The trials of `bench_agent.py`: each measures one thing, beside a peer where there is one, and gives flat figures."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from benchmarking import REPOSITORY, Figure, note
from camera_cycles import Cycles, run_cycles
from edgekit.agent.recognition import Recognizer
from edgekit.core.frame import Frame
from edgekit.runtime.classify import Classifier

TOOLS_DIR = Path(__file__).resolve().parent
CAMERA_FPS = 30.0
SLOW_MS = 100.0
"""An inference three times slower than the camera."""

_ALLOWANCE_MS = 10.0
_NUM_MARKS = 10
"""Parts of a soak that are compared."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What every trial is given.

    Args:
        model: Model file, LiteRT's.
        num_rounds: Turns of each contestant.
        is_quick: Fewer frames.
        scratch: A folder for files.
    """

    model: Path
    num_rounds: int
    is_quick: bool
    scratch: Path


def throughput(trial: Trial) -> dict[str, Figure]:
    """Answers per second of the agent and of a bare loop, over the same film, as fast as either can."""
    film = write_film(trial.scratch / "film.avi", 640, 480)
    num = 100 if trial.is_quick else 300
    agent: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    for index in range(trial.num_rounds):
        turns = [
            lambda: agent.append(work(trial, film, "--answers", num, "--unpaced", "--loop")),
            lambda: bare.append(work(trial, film, "--answers", num, "--bare")),
        ]
        for turn in turns if index % 2 == 0 else reversed(turns):
            turn()
    rates = [_median(runs, "answers_per_s") for runs in (agent, bare)]
    return {
        "throughput_ratio": round(rates[0] / rates[1], 3),
        "throughput_agent_fps": round(rates[0], 1),
        "throughput_bare_fps": round(rates[1], 1),
        "throughput_agent_cpu_ms": round(_median(agent, "cpu_ms_per_answer"), 3),
        "throughput_bare_cpu_ms": round(_median(bare, "cpu_ms_per_answer"), 3),
        "throughput_n": num,
    }


def processor_time(trial: Trial, width: int, height: int) -> dict[str, Figure]:
    """CPU time per answer of the agent and of the usual sample script, at the same network camera."""
    num = 60 if trial.is_quick else 200
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with mjpeg_camera(width, height) as address:
        for index in range(trial.num_rounds):
            turns = [
                lambda: ours.append(work(trial, address, "--answers", num)),
                lambda: theirs.append(run_json("sample_script.py", str(trial.model), address, "--answers", num)),
            ]
            for turn in turns if index % 2 == 0 else reversed(turns):
                turn()
    agent_ms, script_ms = _median(ours, "cpu_ms_per_answer"), _median(theirs, "cpu_ms_per_answer")
    prefix = f"cpu_{width}x{height}"
    return {
        f"{prefix}_ratio": round(agent_ms / script_ms, 3),
        f"{prefix}_agent_ms": round(agent_ms, 3),
        f"{prefix}_script_ms": round(script_ms, 3),
        f"{prefix}_n": num,
    }


def frame_age(trial: Trial) -> dict[str, Figure]:
    """Age of the picture at its answer, when inference is three times slower than the camera."""
    num = 60 if trial.is_quick else 600
    with mjpeg_camera(640, 480) as address:
        network = work(trial, address, "--answers", num, "--delay-ms", SLOW_MS)
    film = write_film(trial.scratch / "film.avi", 640, 480)
    file = work(trial, film, "--answers", num, "--delay-ms", SLOW_MS, "--loop")
    told = [next(one for one in run["status"]["total"] if one["stage"] == "end_to_end") for run in (network, file)]
    inference_ms = max(network["inference_p50_ms"], file["inference_p50_ms"])
    ages = [network["painted_age_p99_ms"], told[1]["p99_ms"] or told[1]["max_ms"]]
    return {
        "frame_age_p99_ms": round(max(ages), 1),
        "frame_age_bound_ms": round(1000 / CAMERA_FPS + _ALLOWANCE_MS + inference_ms, 1),
        "frame_age_mjpeg_painted_p50_ms": round(network["painted_age_p50_ms"], 1),
        "frame_age_mjpeg_painted_p99_ms": round(network["painted_age_p99_ms"], 1),
        "frame_age_mjpeg_told_p50_ms": round(told[0]["p50_ms"], 1),
        "frame_age_file_told_p50_ms": round(told[1]["p50_ms"], 1),
        "frame_age_inference_p50_ms": round(inference_ms, 1),
        "frame_age_n": num,
        "frame_age_rss_growth_mib": round(max(run["pss_end_mib"] - run["pss_begin_mib"] for run in (network, file)), 2),
    }


def small_costs(trial: Trial) -> dict[str, Figure]:
    """Memory without model and runtime, processor time at 5 fps, and the time to the first answer."""
    num = 25 if trial.is_quick else 150
    idle = msgspec.structs.replace(trial, model=Path("burn:3"))
    with mjpeg_camera(640, 480) as address:
        slow = work(idle, address, "--answers", num, "--max-fps", 5, "--http")
    return {
        "pss_without_model_mib": round(slow["pss_end_mib"], 1),
        "cpu_percent_at_5_fps": round(slow["cpu_percent"], 2),
        "cpu_at_5_fps_n": num,
    }


def preprocessing(trial: Trial) -> dict[str, Figure]:
    """CPU time of preprocessing a 640x480 frame, beside that of the inference that follows; in turns."""
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    recognizer = Recognizer(Classifier.open(trial.model))
    frame = Frame(picture=picture, color_order="bgr", sequence=0, captured_ns=0, time_source="arrival")
    prepare_ms: list[float] = []
    infer_ms: list[float] = []
    for _ in range(20 if trial.is_quick else 200):
        started = time.thread_time()
        batch = recognizer.prepare(frame)
        prepared = time.thread_time()
        recognizer.infer(batch)
        prepare_ms.append((prepared - started) * 1e3)
        infer_ms.append((time.thread_time() - prepared) * 1e3)
    medians = statistics.median(prepare_ms), statistics.median(infer_ms)
    return {
        "preprocess_share": round(medians[0] / medians[1], 4),
        "preprocess_640x480_cpu_ms": round(medians[0], 3),
        "preprocess_inference_cpu_ms": round(medians[1], 3),
    }


def first_answer(trial: Trial) -> dict[str, Figure]:
    """From starting the program to its first answer, live page included; the built-in model as a bundle."""
    run_dir = built_in_run(trial)
    bundle = trial.scratch / "model.ekb"
    command = [sys.executable, "-m", "edgekit.cli.main", "bundle", run_dir, "--for", "host_cpu", "--out", bundle]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    command = [sys.executable, "-m", "edgekit.cli.main", "agent", "run", "--bundle", bundle, "--http", "0", "--json"]
    command += ["--camera", "synthetic:640x480@30", "--frames", "1", "--state", trial.scratch / "first"]
    times: list[float] = []
    for _ in range(trial.num_rounds):
        started = time.perf_counter()
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True)
        times.append(time.perf_counter() - started)
        last = msgspec.json.decode(done.stdout.splitlines()[-1])
        if last["num_answers"] != 1:
            raise SystemExit("the agent ended without its one answer")
    # the end of the program is in it: an upper bound
    return {"first_answer_s": round(statistics.median(times), 2)}


def built_in_run(trial: Trial) -> Path:
    """The built-in MobileNet, compressed; made once."""
    run_dir = trial.scratch / "run"
    if not run_dir.exists():
        command = [sys.executable, "-m", "edgekit.cli.main", "compress", "mobilenet", "--no-bench", "--out", run_dir]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return run_dir


def losses(num_cycles: int) -> dict[str, Figure]:
    """Cameras that go and come back, over and over: how soon that is seen, and what it leaks.

    Unplugged devices, streams that break off, and, a tenth as often, devices that hang (each costs its deadline of 2 s
    and a process).
    """
    runs: list[Cycles] = []
    for fault, num in (("unplug", num_cycles), ("drop", num_cycles), ("stall", max(2, num_cycles // 10))):
        note(f"losses: {fault}, {num} times")
        runs.append(run_cycles(fault, num))
    figures: dict[str, Figure] = {}
    for run in runs:
        prefix = f"loss_{run.fault}"
        figures[f"{prefix}_cycles"] = run.num_cycles
        figures[f"{prefix}_seen_max_s"] = round(run.seen_max_s, 3)
        figures[f"{prefix}_recovered_p50_s"] = round(run.recovered_p50_s, 3)
        figures[f"{prefix}_recovered_max_s"] = round(run.recovered_max_s, 3)
        figures[f"{prefix}_rss_drift_mib"] = round(run.rss_drift_mib, 2)
    return {
        "loss_seen_max_s": round(max(run.seen_max_s for run in runs), 3),
        "loss_recovered_max_s": round(max(run.recovered_max_s for run in runs), 3),
        "loss_rss_drift_mib": round(max(run.rss_drift_mib for run in runs), 2),
        "loss_leaked_descriptors": sum(run.descriptors[1] - run.descriptors[0] for run in runs),
        "loss_leaked_children": sum(run.children[1] - run.children[0] for run in runs),
        **figures,
    }


def soak(trial: Trial, num_frames: int) -> dict[str, Figure]:
    """So many frames without a pause, with the built-in model: memory and CPU time at the end beside the beginning."""
    small = msgspec.structs.replace(trial, model=built_in_run(trial) / "model.tflite")
    figures = work(small, "synthetic:160x120@0", "--answers", num_frames, "--marks", _NUM_MARKS)
    marks = figures["marks"]
    return {
        "soak_frames": num_frames,
        "soak_fps": round(figures["answers_per_s"], 1),
        "soak_pss_first_mib": round(marks[0]["pss_mib"], 1),
        "soak_pss_last_mib": round(marks[-1]["pss_mib"], 1),
        "soak_cpu_ms_first": round(marks[0]["cpu_ms_per_answer"], 4),
        "soak_cpu_ms_last": round(marks[-1]["cpu_ms_per_answer"], 4),
        "soak_end_to_end_p99_ms": next(
            one["p99_ms"] for one in figures["status"]["total"] if one["stage"] == "end_to_end"
        ),
    }


def work(trial: Trial, camera: str | Path, *options: str | float) -> dict[str, Any]:
    """Run `agent_worker.py`."""
    return run_json("agent_worker.py", str(trial.model), str(camera), "--state", trial.scratch / "state", *options)


def run_json(script: str, *options: str | float | Path) -> dict[str, Any]:
    """Run a script of this folder; the document it prints."""
    command = [sys.executable, str(TOOLS_DIR / script), *map(str, options)]
    done = subprocess.run(command, check=False, capture_output=True, cwd=REPOSITORY)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr.decode()}")
    return msgspec.json.decode(done.stdout)


@contextlib.contextmanager
def mjpeg_camera(width: int, height: int) -> Generator[str, None, None]:
    """A network camera in a process of its own; its address."""
    command = [sys.executable, str(TOOLS_DIR / "mjpeg_server.py"), "--fps", str(CAMERA_FPS)]
    command += ["--width", str(width), "--height", str(height)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        if server.stdout is None:
            raise SystemExit("the camera has no output")
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def write_film(path: Path, width: int, height: int, num_frames: int = 300) -> Path:
    """A film of MJPEG frames that move; written once."""
    if not path.exists():
        noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        canvas = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), CAMERA_FPS, (width, height))
        for number in range(num_frames):
            writer.write(np.roll(canvas, 3 * number, axis=1))
        writer.release()
    return path


def _median(runs: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)
