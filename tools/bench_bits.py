"""Below eight bits: what is lost and what it weighs, beside the peers, against the bars.

    python tools/bench_bits.py [--quick] [--model NAME ...] [--setting NAME ...] [--work DIR] [--runs DIR]
        [--peers-python PATH] [--nncodec-python PATH] [--set SECTION.KEY=VALUE ...]

Every row is one model in one setting, compressed as `edgekit compress` does it, in a process of its own; measured on
what comes out of the `.ekz`, through the runtime, with exact sums. Networks for ImageNet are calibrated on one half of
the sample pictures and measured on the other, in four crops of each; the others on the full 10,000 test pictures. Per
row: top-1, agreement with float and points of top-1 lost, with 95 % intervals over pictures (Wilson; for the points,
of the paired differences), bytes, time, memory, and which bars are met.

Peers with `--peers-python` (onnxruntime and ai-edge-quantizer) start from our float files and are calibrated on our
pictures; `--nncodec-python` (NNCodec) codes the float weights of two models at several steps, to compare bytes at
95 % agreement. Rows in `--work` are not made again: take another folder for other code. Hours, from nothing.

Data is looked for in `$EDGEKIT_DATA`: `fashion-mnist/`, `cifar10.tar.xz`, `imagenet-sample/` and `models/`. `--runs`
holds the runs `{mobilenet,squeezenet,shufflenet}-cifar10`. One JSON document on standard output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarking import Figure, arguments, machine_figures, note, print_document
from bits_jobs import Workshop
from bits_peers import QPS, QUICK_QPS, nncodec_rows, peer_figures, yardstick_figures
from bits_plan import MODELS, SETTINGS, YARDSTICK_MODELS, ModelPlan, Setting
from bits_rows import Row, judge, row_figures
from peers import Peers, start_peers

QUICK_MODELS, QUICK_SETTINGS = ("mobilenet",), ("w8a8", "w6a8", "w4a8")
QUICK_PICTURES = 1000


def measure(
    workshop: Workshop, plan: ModelPlan, settings: Sequence[Setting]
) -> tuple[dict[str, Row], dict[str, Figure]]:
    """Rows of one model by setting, and all of them flat, with their bars."""
    rows: dict[str, Row] = {}
    figures: dict[str, Figure] = {}
    for setting in settings:
        if not setting.suits(plan):
            continue
        key = f"{plan.name}.{setting.name}"
        row = rows[setting.name] = workshop.compressed(plan, setting)
        base_bytes = workshop.base_bytes(plan)
        figures |= row_figures(key, row, base_bytes)
        met = judge(row, plan, setting, base_bytes)
        figures |= {f"{key}.bar_{name}_is_met": is_met for name, is_met in met.items()}
        if met:
            figures[f"{key}.bars_are_met"] = all(met.values())
    return rows, figures


def measure_model(
    workshop: Workshop,
    plan: ModelPlan,
    settings: Sequence[Setting],
    peers_python: str | None,
    nncodec: tuple[Peers, Sequence[int]] | None,
) -> dict[str, Figure]:
    """Everything about one model; only the error of one that is not at hand."""
    float_row = workshop.prepare(plan)
    figures = row_figures(f"{plan.name}.float", float_row, None)
    if float_row.error:
        return figures
    if float_row.scores is not None:
        figures[f"{plan.name}.num_pictures"] = float_row.scores.num_pictures
        figures[f"{plan.name}.num_views"] = float_row.scores.num_views
    rows, own = measure(workshop, plan, settings)
    figures |= own
    if peers_python is not None:
        figures |= peer_figures(workshop, plan, peers_python)
    if nncodec is not None and plan.name in YARDSTICK_MODELS:
        figures |= yardstick_figures(plan.name, rows, nncodec_rows(workshop, plan, *nncodec))
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--model", nargs="+", choices=tuple(MODELS), help="default: all that are at hand")
    parser.add_argument("--setting", nargs="*", choices=tuple(SETTINGS), help="default: all; none for the peers alone")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps files and rows, to go on with")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="holds the runs trained on cifar10_jpeg")
    parser.add_argument("--peers-python", metavar="PATH", help="interpreter with onnxruntime and ai-edge-quantizer")
    parser.add_argument("--nncodec-python", metavar="PATH", help="interpreter with nncodec; default: not compared")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe, for all settings")
    options = parser.parse_args(words)
    models = options.model or (QUICK_MODELS if options.quick else tuple(MODELS))
    if options.runs is None and not options.model:
        models = tuple(name for name in models if not MODELS[name].in_runs)
    settings = QUICK_SETTINGS if options.quick else tuple(SETTINGS)
    settings = settings if options.setting is None else options.setting
    figures = machine_figures()
    with ExitStack() as stack:
        work_dir = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-bench-")))
        pictures = QUICK_PICTURES if options.quick else None
        workshop = Workshop(work_dir, options.runs, pictures, tuple(options.set))
        nncodec = None
        if options.nncodec_python:
            coder = stack.enter_context(start_peers(options.nncodec_python))
            nncodec = coder, QUICK_QPS if options.quick else QPS
        for name in models:
            note(name)
            chosen = [setting for key, setting in SETTINGS.items() if key in settings]
            figures |= measure_model(workshop, MODELS[name], chosen, options.peers_python, nncodec)
    judged = [value for key, value in figures.items() if key.endswith((".bars_are_met", "nncodec_is_met"))]
    figures["num_rows_with_bars"] = len(judged)
    figures["num_rows_that_meet_them"] = sum(bool(value) for value in judged)
    print_document(figures)


if __name__ == "__main__":
    main()
