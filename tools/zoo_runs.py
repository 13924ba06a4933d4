"""Train, compress and measure the networks of `zoo_plan.py`, through the command line, in child processes.

A training that was interrupted goes on; what is complete is not made again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarking import note, quotient
from edgekit.core.errors import UnknownNameError
from edgekit.core.layout import MODEL_TFLITE
from edgekit.core.measurement import Accuracy
from edgekit.core.report import Report
from edgekit.models.checkpoint import read_card
from edgekit.models.zoo import parse_model_name
from edgekit.report.files import JSON_NAME
from edgekit.runtime.benchmark import BenchmarkSettings, compare
from edgekit.train.shipped import find_recipe
from shrunk_runs import run
from zoo_plan import YARDSTICK, Training

NUM_QUERIES = 400


class ZooRow(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one training, in 8 bits.

    Args:
        training: What was trained.
        num_params: Parameters.
        macs: Multiply-accumulates of one picture.
        num_pictures: Test pictures.
        top1_float: Of the float file, with its 95 % interval (Wilson).
        top1_int8: Of the int8 TFLite file.
        float_bytes: Float ONNX file.
        tflite_bytes: Int8 TFLite file.
        ekz_bytes: The same, packed.
        bars_met: Whether verification passed.
        latency_p50_ms: Of the int8 TFLite file, one thread; None when it was not measured.
        latency_ratio: CPU time over that of the yardstick on the same pictures, in one run; None without one.
    """

    training: Training
    num_params: int
    macs: int
    num_pictures: int
    top1_float: Accuracy
    top1_int8: Accuracy
    float_bytes: int
    tflite_bytes: int
    ekz_bytes: int
    bars_met: bool
    latency_p50_ms: float | None = None
    latency_ratio: float | None = None


def is_known(training: Training) -> bool:
    """Whether the catalogue has the architecture (or the alias) at all."""
    if training.epochs is None:
        return True
    try:
        parse_model_name(training.network)
    except UnknownNameError:
        return False
    return True


def is_trained(training: Training, runs_dir: Path) -> bool:
    """Whether its weights are there: the right network, and as many epochs as the plan says."""
    if training.epochs is None:
        return True
    path = runs_dir / training.stem / "checkpoint.json"
    if not path.is_file():
        return False
    card = read_card(path.with_suffix(".safetensors"))
    return (card.options.variant, card.num_epochs) == (parse_model_name(training.network).variant, training.epochs)


def make_run(training: Training, runs_dir: Path) -> None:
    """Train and compress one network, unless that is done.

    Args:
        training: Which.
        runs_dir: Holds RUNS/<stem> and RUNS/<stem>-8bit.

    Raises:
        UsageError: A command failed.
    """
    trained, compressed = runs_dir / training.stem, runs_dir / f"{training.stem}-8bit"
    width = () if training.width is None else ("--width", f"{training.width:g}")
    started = time.monotonic()
    if not is_trained(training, runs_dir):
        recipe = find_recipe(training.model, training.data, training.width)
        settings = ("--recipe", str(recipe)) if recipe else _plain(training)
        short = ("--set", "train.warmup_epochs=0.5") if training.is_short else ()
        words = (training.model, *width, "--data", training.data, "--epochs", str(training.epochs))
        run("train", *words, *settings, *short, "--out", str(trained), "--resume")
        note(f"{training.stem}: trained in {time.monotonic() - started:.0f} s")
    if not (compressed / JSON_NAME).is_file():
        model = training.model if training.epochs is None else str(trained)
        words = ("--data", training.data, "--bits", "8", "--no-bench", "--out", str(compressed))
        run("compress", model, *words)


def _plain(training: Training) -> tuple[str, ...]:
    """Settings where no recipe is shipped: those that the recipes of the same dataset have in common."""
    padding = 2 if training.data == "fashion_mnist" else 4
    settings = (f"augment.crop_padding={padding}", "augment.flip=true")
    return tuple(word for setting in settings for word in ("--set", setting))


def read_row(training: Training, report: Report) -> ZooRow:
    """The figures of a run, without latency.

    Raises:
        ValueError: The run was measured without labels, or is older than the packer.
    """
    accuracy, sizes = report.accuracy, report.sizes
    if accuracy.float is None or accuracy.tflite is None or sizes.ekz_bytes is None:
        raise ValueError(f"{training.stem}: no accuracy or no packed size in its report")
    return ZooRow(
        training=training,
        num_params=report.num_params,
        macs=report.macs,
        num_pictures=report.dataset.n,
        top1_float=accuracy.float,
        top1_int8=accuracy.tflite,
        float_bytes=sizes.float_bytes,
        tflite_bytes=sizes.tflite_bytes,
        ekz_bytes=sizes.ekz_bytes,
        bars_met=all(check.passed for check in report.checks),
    )


def with_latency(rows: Sequence[ZooRow], runs_dir: Path, num_queries: int = NUM_QUERIES) -> list[ZooRow]:
    """Measure the int8 TFLite files of each dataset in turns, one thread, in one run."""
    timed: dict[str, ZooRow] = {}
    for data in dict.fromkeys(row.training.data for row in rows):
        mine = [row for row in rows if row.training.data == data]
        paths = [runs_dir / f"{row.training.stem}-8bit" / MODEL_TFLITE for row in mine]
        settings = BenchmarkSettings(num_queries=num_queries, max_seconds=300.0, isolate=False)
        taken = compare(paths, settings)
        base = [each for row, each in zip(mine, taken, strict=True) if row.training.network == YARDSTICK]
        for row, each in zip(mine, taken, strict=True):
            timed[row.training.stem] = msgspec.structs.replace(
                row,
                latency_p50_ms=round(each.p50_ms, 4),
                latency_ratio=quotient(each.cpu_p50_ms, base[0].cpu_p50_ms) if base else None,
            )
    return [timed[row.training.stem] for row in rows]
