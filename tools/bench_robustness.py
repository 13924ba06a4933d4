"""What compression did to robustness: float against 8 bits, 6 bits, zeros and fewer channels, for the compact families.

    python tools/bench_robustness.py --runs DIR [--quick] [--family NAME ...] [--keep DIR]

DIR holds, for each family, the float network that `edgekit train` made (DIR/NAME) and its runs of `edgekit compress`:
DIR/NAME-8 (`--bits 8`), DIR/NAME-6 (`--bits 6`), DIR/NAME-dc (`--prune 0.7 --share 5`) and DIR/NAME-ch
(`--prune-channels 0.3`), as docs/results.md makes them; runs of 8 and 6 bits are made where missing. All see the same
changed pictures of `cifar10_jpeg`, through their runtimes. FGSM and PGD follow the float network's gradient, the
square attack asks each file itself. Per family and model: accuracy unchanged, corrupted and attacked, mean corruption
error (float = 100), and how many of the pictures that fool the float network fool the file.

One JSON document on standard output; `--keep` also writes each family's robustness.json there.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarking import Figure, arguments, machine_figures, note, print_document
from edgekit.core.errors import UsageError
from edgekit.core.progress import Silent
from edgekit.core.robustness import AttackSweep, Robustness, RobustnessSettings
from edgekit.core.storage import write_text
from edgekit.report.files import encode_report
from edgekit.verify.lineup import LineupRequest
from edgekit.verify.robustness import RobustnessRequest, measure_robustness
from shrunk_runs import run

FAMILIES = ("mobilenet", "shufflenet", "squeezenet")
DATA = "cifar10"
BITS = ("8", "6")
KINDS = (*BITS, "dc", "ch")
QUICK = RobustnessSettings(num_pictures=40, num_attacked=10, num_queries=20, num_fooling=10, num_generations=20)


class Stages(Silent):
    """Tells on standard error which stage begins: a family takes minutes."""

    def begin(self, label: str, total: int) -> None:
        """Name the stage."""
        note(f"{label}: {total}")


def find_runs(runs_dir: Path, family: str) -> list[Path]:
    """The compressed runs of a family, those of 8 and 6 bits made where they are missing.

    Raises:
        UsageError: The float network is missing, or a command failed.
    """
    trained = runs_dir / family
    if not (trained / "checkpoint.json").is_file():
        raise UsageError(f"{trained} holds no trained network", hint="docs/results.md says how it is trained")
    for bits in BITS:
        target = runs_dir / f"{family}-{bits}"
        if not (target / "model.tflite").is_file():
            run("compress", str(trained), "--data", DATA, "--bits", bits, "--no-bench", "--out", str(target))
    return [path for kind in KINDS if ((path := runs_dir / f"{family}-{kind}") / "model.tflite").is_file()]


def measure_family(runs_dir: Path, family: str, settings: RobustnessSettings) -> Robustness:
    """All models of a family on the same changed pictures, the float network first."""
    first, *others = (str(path) for path in find_runs(runs_dir, family))
    lineup = LineupRequest(model=first, vs=tuple(others), float_model=str(runs_dir / family), num_threads=1)
    request = RobustnessRequest(lineup=lineup, data=DATA, settings=settings)
    return measure_robustness(request, Stages()).robustness


def family_figures(family: str, robustness: Robustness) -> dict[str, Figure]:
    """Flat figures of every model of a family."""
    figures: dict[str, Figure] = {}
    for index, model in enumerate(robustness.models):
        name = Path(model.about.given).name.removeprefix(f"{family}-") if index else "float"
        key = f"{family}_{name}" if not name.isdigit() else f"{family}_{name}bit"
        low, high = model.difference_ci95
        figures |= {
            f"{key}_plain_top1_percent": percent(model.plain.top1),
            f"{key}_corrupted_top1_percent": percent(model.corrupted),
            f"{key}_corrupted_difference_points": percent(model.difference),
            f"{key}_corrupted_difference_low_points": percent(low),
            f"{key}_corrupted_difference_high_points": percent(high),
            f"{key}_mean_corruption_error": None if model.mean_error is None else round(model.mean_error, 1),
            f"{key}_temperature": round(model.suggestion.temperature, 2),
            f"{key}_threshold": model.suggestion.threshold,
        }
        for sweep in robustness.attacks:
            if sweep.kind != "square" or sweep.attacked == index:
                figures |= attack_figures(key, sweep, index)
        for fooling in robustness.fooling:
            fooled = fooling.fooled[index]
            figures[f"{key}_fooled_{fooling.method}_pictures"] = fooled.num_sure
            figures[f"{key}_fooled_{fooling.method}_same_class_pictures"] = fooled.num_same
            figures[f"{key}_fooling_{fooling.method}_pictures"] = fooling.num_fooling
    return figures


def attack_figures(key: str, sweep: AttackSweep, index: int) -> dict[str, Figure]:
    """What one model is right on, by epsilon in levels of 255."""
    return {
        f"{key}_{sweep.kind}_{round(255 * level.amount)}_top1_percent": percent(level.outcomes[index].top1)
        for level in sweep.levels
    }


def percent(share: float) -> float:
    """A share in percent, two decimals."""
    return round(100 * share, 2)


def main() -> None:
    """Measure, and print the document."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="where the runs are")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="only these")
    parser.add_argument("--pictures", type=int, default=None, help="pictures that are corrupted and moved")
    parser.add_argument("--attacked", type=int, default=None, help="pictures that are attacked")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write each family's robustness.json there")
    options = parser.parse_args()
    settings = QUICK if options.quick else RobustnessSettings()
    settings = msgspec.structs.replace(
        settings,
        num_pictures=options.pictures or settings.num_pictures,
        num_attacked=options.attacked or settings.num_attacked,
    )
    figures = machine_figures()
    figures |= {
        "num_pictures": settings.num_pictures,
        "num_attacked_pictures": settings.num_attacked,
        "num_pgd_steps": settings.num_steps,
        "num_square_queries": settings.num_queries,
        "num_fooling_pictures_tried": settings.num_fooling,
    }
    for family in options.family:
        note(family)
        robustness = measure_family(options.runs, family, settings)
        if options.keep is not None:
            write_text(options.keep / f"{family}.json", encode_report(robustness))
        figures |= family_figures(family, robustness)
    print_document(figures)


if __name__ == "__main__":
    main()
