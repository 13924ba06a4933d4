"""The agent beside a bare loop and the usual sample script: throughput, CPU time, age of frames, losses, memory.

    python tools/bench_agent.py [--quick] [--only TRIAL ...] [--model FILE] [--cycles N] [--soak FRAMES]

The camera is a network camera (MJPEG over HTTP, 30 fps) on this machine, or a film. The model is an int8 MobileNet V2
of 224 pixels with uint8 input (default: the one in ../shared/data/models, else the built-in one); whoever is compared
runs the same file with one thread, in turns, and the median counts. One JSON document on standard output:

- `throughput_ratio`: answers per second of the agent over those of a bare loop of the same steps of the same
  interpreter over the same frames, which has them decoded already (bar: 0.95);
- `cpu_640x480_ratio`, `cpu_1280x720_ratio`: CPU time per answer, agent (both processes) over `sample_script.py`
  (bar: 0.9);
- `frame_age_p99_ms`, `frame_age_bound_ms`: age of the picture at its answer when inference takes three frame periods,
  by the time painted into the picture (network) and by the time that the agent tells (film); the bound is one period
  + 10 ms + inference;
- `preprocess_share`: CPU time of preprocessing a 640x480 frame over that of inference (bar: 0.1);
- `loss_*`: a camera that goes and comes back; `pss_*`, `cpu_percent_at_5_fps`, `first_answer_s`: what it costs;
- `soak_*`: only with `--soak`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from agent_trials import (
    Trial,
    first_answer,
    frame_age,
    losses,
    preprocessing,
    processor_time,
    small_costs,
    soak,
    throughput,
)
from benchmarking import NUM_ROUNDS, REPOSITORY, Figure, arguments, machine_figures, note, print_document

SHARED_MODEL = REPOSITORY.parent / "shared" / "data" / "models" / "mobilenet_v2_1.0_224_quant.tflite"
NUM_CYCLES = 1000
QUICK_CYCLES = 5


def main() -> None:
    """Measure, and print the document."""
    trials = ("throughput", "cpu", "age", "costs", "losses")
    parser = arguments(__doc__)
    parser.add_argument("--only", action="append", choices=trials, help="measure this alone; may be given again")
    parser.add_argument("--model", type=Path, default=SHARED_MODEL, help="LiteRT file that takes uint8 pictures")
    parser.add_argument("--cycles", type=int, help="losses of the camera")
    parser.add_argument("--soak", type=int, help="answer so many frames instead")
    given = parser.parse_args()
    if not given.model.is_file():
        raise SystemExit(f"no model at {given.model}: name one with --model")
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as scratch:
        trial = Trial(
            model=given.model,
            num_rounds=1 if given.quick else NUM_ROUNDS,
            is_quick=given.quick,
            scratch=Path(scratch),
        )
        num_cycles = given.cycles or (QUICK_CYCLES if given.quick else NUM_CYCLES)
        chosen: dict[str, Callable[[], dict[str, Figure]]] = {
            "throughput": lambda: throughput(trial),
            "cpu": lambda: {**processor_time(trial, 640, 480), **processor_time(trial, 1280, 720)},
            "age": lambda: frame_age(trial),
            "costs": lambda: {**preprocessing(trial), **small_costs(trial), **first_answer(trial)},
            "losses": lambda: losses(num_cycles),
        }
        if given.soak:
            chosen = {"soak": lambda: soak(trial, given.soak)}
        figures: dict[str, Figure] = {"model": given.model.name, **machine_figures()}
        for name, measure in chosen.items():
            if given.only is None or name in given.only or name == "soak":
                note(name)
                figures.update(measure())
    print_document(figures)


if __name__ == "__main__":
    main()
