"""Train by a recipe, then prune, share and code by the same recipe; and the figures of what came out.

Used by `bench_deep_compression.py`. Everything goes through the command line, in child processes that resume: a run
that is complete is not made again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarking import REPOSITORY, Figure, note, quotient, run_child
from edgekit.core.errors import UsageError
from edgekit.core.recipe_files import load_recipe
from edgekit.core.report import Report
from edgekit.report.files import JSON_NAME, read_report
from edgekit.report.findings import headline_latency
from edgekit.report.shrinking import original_latency
from edgekit.shrink.request import is_asked

_BAR_MISSED = 1


def shrinking_recipes() -> list[Path]:
    """The shipped recipes that prune or share; those that learn from another's network come last."""
    found = [path for path in sorted((REPOSITORY / "recipes").glob("*.toml")) if is_asked(load_recipe(path))]
    return sorted(found, key=lambda path: load_recipe(path).finetune.teacher is not None)


def make_run(path: Path, out_dir: Path, *, quick: bool) -> Report:
    """Train and shrink by one recipe.

    Args:
        path: The recipe.
        out_dir: Holds OUT/<model>-<data> and OUT/<model>-<data>-shrunk; what is there already is used.
        quick: One epoch of everything, to see that it works.

    Raises:
        UsageError: A command failed.
    """
    recipe = load_recipe(path)
    size = "" if recipe.model.width is None else f"_w{recipe.model.width:g}"
    trained = out_dir / f"{recipe.model.name}{size}-{recipe.data.name}"
    shrunk = trained.with_name(f"{trained.name}-shrunk")
    short = ("train.epochs=1", "prune.epochs=1", "share.epochs=1", "finetune.distill_weight=0.0")
    epoch = [word for setting in short for word in ("--set", setting)] if quick else []
    if not (trained / "checkpoint.json").is_file():
        width = () if recipe.model.width is None else ("--width", f"{recipe.model.width:g}")
        words = (recipe.model.name, *width, "--data", recipe.data.name, "--recipe", str(path))
        run("train", *words, "--out", str(trained), "--resume", *epoch)
    if not (shrunk / JSON_NAME).is_file():
        bar = ("--max-drop", "100") if quick else ()
        run("compress", str(trained), "--recipe", str(path), "--out", str(shrunk), "--resume", *bar, *epoch)
    return read_report(shrunk)


def run(*words: str) -> None:
    """Run edgekit from this checkout; a missed bar is no failure, it is in the report."""
    note(f"edgekit {' '.join(words)}")
    command = [sys.executable, "-m", "edgekit.cli.main", *words]
    done = run_child(command, environment={"PYTHONPATH": str(REPOSITORY)})
    if done.exit_code not in {0, _BAR_MISSED}:
        raise UsageError(f"edgekit {' '.join(words)} ended with exit code {done.exit_code}")


def report_figures(name: str, report: Report) -> dict[str, Figure]:
    """Sizes, ratios, accuracy and latency of one shrunk run, flat.

    Args:
        name: Prefix of the keys.
        report: Of the run.
    """
    shrink = report.shrink
    if shrink is None:
        raise UsageError(f"{name}: nothing was pruned or shared")
    before, after = shrink.original, report.accuracy
    classic = shrink.coding[-1].classic_bytes
    figures: dict[str, Figure] = {
        "float_weight_bytes": shrink.float_weight_bytes,
        "ekz_bytes": report.sizes.ekz_bytes,
        "classic_bytes": classic,
        "limit_bytes": report.sizes.limit_bytes,
        "ratio": quotient(shrink.float_weight_bytes, report.sizes.ekz_bytes),
        "classic_ratio": quotient(shrink.float_weight_bytes, classic),
        "original_ekz_bytes": before.ekz_bytes,
        "sparsity": round(shrink.sparsity, 4),
        "conv_bits": shrink.conv_bits,
        "fc_bits": shrink.fc_bits,
        "macs_before": before.macs,
        "macs_after": report.macs,
        "top1_float_before": None if before.accuracy is None else before.accuracy.top1,
        "top1_float_after": None if after.float is None else after.float.top1,
        "top1_tflite_after": None if after.tflite is None else after.tflite.top1,
        "num_pictures": report.dataset.n,
        "bars_met": all(check.passed for check in report.checks),
    }
    old, new = original_latency(report), headline_latency(report)
    if old is not None and new is not None:
        figures |= {
            "latency_p50_ms_before": round(old.p50_ms, 4),
            "latency_p50_ms_after": round(new.p50_ms, 4),
            "latency_ratio": quotient(new.p50_ms, old.p50_ms),
        }
    return {f"{name}.{key}": value for key, value in figures.items()}


def measure_runs(recipes: Sequence[Path], out_dir: Path, *, quick: bool) -> dict[str, Figure]:
    """Figures of every recipe's run."""
    figures: dict[str, Figure] = {}
    for path in recipes:
        name = path.stem.rsplit("-", 1)[0].replace("-", "_").lower()
        figures |= report_figures(name, make_run(path, out_dir, quick=quick))
    return figures
