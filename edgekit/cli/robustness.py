"""`edgekit evaluate --robustness`: its options, and what it prints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edgekit.cli.console import Bars, note, show_document, unreadable_lines
from edgekit.core.errors import UsageError

if TYPE_CHECKING:
    from edgekit.core.robustness import RobustnessSettings

RobustnessFlag = Annotated[
    bool,
    typer.Option(
        "--robustness", help="Measure robustness instead, before and after compression: 500 pictures, 200 attacked."
    ),
]
FloatOption = Annotated[
    str | None, typer.Option("--float", metavar="MODEL", help="Robustness: the model before compression.")
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Robustness: a robustness.json whose first model has corruption error 100."),
]
EpsilonOption = Annotated[
    list[str] | None,
    typer.Option(help="Robustness: largest change of a pixel, as 8/255 or 0.03; may be given again."),
]
AttackedOption = Annotated[int | None, typer.Option(min=1, help="Robustness: so many pictures are attacked.")]
QueriesOption = Annotated[
    int | None, typer.Option(min=1, help="Robustness: answers that the square attack may ask for (200).")
]


class RobustnessOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says; None where it says nothing.

    Args:
        float_model: The model before compression.
        reference: A robustness.json, or the folder of one, that corruption errors are relative to.
        epsilons: "8/255" or "0.03".
        attacked: Pictures to attack.
        queries: Of the square attack.
    """

    float_model: str | None
    reference: Path | None
    epsilons: tuple[str, ...]
    attacked: int | None
    queries: int | None

    def refuse(self) -> None:
        """Say that these options need --robustness.

        Raises:
            UsageError: One of them was given.
        """
        given = {
            "--float": self.float_model,
            "--reference": self.reference,
            "--epsilon": self.epsilons or None,
            "--attacked": self.attacked,
            "--queries": self.queries,
        }
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{name} says nothing without --robustness", hint="add --robustness")


class EvaluateJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured, and where it goes: as `edgekit evaluate` takes it, with or without robustness."""

    model: str
    data: str
    vs: tuple[str, ...]
    out: Path | None
    num_pictures: int | None
    num_threads: int
    as_json: bool
    command: str


def run_robustness(job: EvaluateJob, options: RobustnessOptions) -> None:
    """Measure, write and print. Raises as `measure_robustness`."""
    from edgekit.report.robustness_files import read_robustness, write_robustness
    from edgekit.report.robustness_text import render_robustness
    from edgekit.verify.lineup import LineupRequest
    from edgekit.verify.robustness import RobustnessRequest, measure_robustness

    request = RobustnessRequest(
        lineup=LineupRequest(
            model=job.model,
            vs=job.vs,
            float_model=options.float_model,
            num_threads=job.num_threads,
        ),
        data=job.data,
        settings=choose_settings(job.num_pictures, options),
        reference=None if options.reference is None else read_robustness(options.reference),
        command=job.command,
    )
    with Bars() as bars:
        found = measure_robustness(request, bars)
    for line in unreadable_lines(found.unreadable, found.num_unreadable):
        note(line)
    files = None if job.out is None else write_robustness(found.robustness, job.out)
    html_path = None if files is None else files.html_path
    show_document(found.robustness, render_robustness, html_path, as_json=job.as_json)


def choose_settings(num_pictures: int | None, options: RobustnessOptions) -> RobustnessSettings:
    """How much to measure: the defaults, where nothing is said.

    Raises:
        UsageError: An epsilon that is no number.
    """
    from edgekit.core.robustness import RobustnessSettings

    usual = RobustnessSettings()
    return msgspec.structs.replace(
        usual,
        num_pictures=usual.num_pictures if num_pictures is None else num_pictures,
        num_attacked=usual.num_attacked if options.attacked is None else options.attacked,
        num_queries=usual.num_queries if options.queries is None else options.queries,
        epsilons=tuple(parse_epsilon(text) for text in options.epsilons) or usual.epsilons,
    )


def parse_epsilon(text: str) -> float:
    """An epsilon as a share of the range 0 to 255.

    >>> parse_epsilon("0.5"), parse_epsilon("51/255")
    (0.5, 0.2)

    Raises:
        UsageError: No number, or outside 0 to 1.
    """
    above, slash, below = text.partition("/")
    try:
        value = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"epsilon {text!r} is no number", hint="write it as 8/255 or 0.03") from error
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise UsageError(f"epsilon {text} is outside 0 to 1, the range of a pixel", hint="8 levels of 255 are 8/255")
    return value
