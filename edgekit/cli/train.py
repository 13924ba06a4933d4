"""`edgekit train`: from a dataset to trained weights."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.architecture import InputSize, SqueezeExcite, Width
from edgekit.cli.compress import read_recipe
from edgekit.cli.console import Bars, note, print_json, show


class Adversarial(str, enum.Enum):
    """What attacks the pictures that are learnt from."""

    FGSM = "fgsm"
    PGD = "pgd"


def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="ARCH", help="Catalogue name or alias.")],
    data: Annotated[str, typer.Option(help="Dataset, or a folder of class folders.")],
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML).  [default: the shipped one, if any]")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key of the recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/MODEL-DATA]")] = None,
    width: Width = None,
    input_size: InputSize = None,
    squeeze_excite: SqueezeExcite = False,
    init: Annotated[str | None, typer.Option(help="Run folder, checkpoint or alias to start from.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Run folder, checkpoint or alias to distil from.")] = None,
    adversarial: Annotated[Adversarial | None, typer.Option(help="Learn from pictures under attack.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="The attack's largest change, as a share of 0..255.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pictures.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this run folder stopped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Train an architecture; weights, curves and logs go into a run folder."""
    from edgekit.core.errors import UsageError
    from edgekit.pipeline import train_run
    from edgekit.train.shipped import find_recipe

    if epsilon is not None and not 0 < epsilon <= 1:
        hint = "without an attack, leave --adversarial out; 0.03 (8/255) is customary for small pictures"
        raise UsageError(f"--epsilon is {epsilon:g}, expected above 0 and at most 1", hint=hint)
    settings = [*(overrides or [])]
    for key, value in (
        ("model.width", width),
        ("model.input_size", input_size),
        ("model.squeeze_excite", "true" if squeeze_excite else None),
        ("train.init", init),
        ("train.teacher", teacher),
        ("train.adversarial", None if adversarial is None else adversarial.value),
        ("train.adversarial_epsilon", epsilon),
        ("train.epochs", epochs),
    ):
        settings += [] if value is None else [f"{key}={value}"]
    named = f"se_{model}" if squeeze_excite and not model.startswith("se_") else model
    recipe = recipe or find_recipe(named, data, width)
    if recipe is not None:
        note(f"recipe {recipe}")
    resolved = read_recipe(model, data, recipe, settings)
    if epsilon is not None and resolved.train.adversarial is None:
        raise UsageError("--epsilon is for the attack of --adversarial: none is asked for", hint="--adversarial fgsm")
    run_dir = out or Path("runs") / f"{named}{'' if width is None else f'_w{width:g}'}-{Path(data).name}"
    with Bars() as bars:
        trained = train_run(resolved, run_dir, resume=resume, progress=bars, command=str(context.obj or ""))
    last = trained.history[-1]
    if as_json:
        print_json({"run_dir": trained.run_dir, "card": trained.card, "history": trained.history})
        return
    top1 = "" if trained.card.test_top1 is None else f", top-1 {trained.card.test_top1:.2%} on {trained.card.num_test}"
    show(f"{len(trained.history)} epochs, loss {last.train_loss:.3f}{top1}")
    show(f"{trained.run_dir}: checkpoint.safetensors, curves.png; next: edgekit compress {trained.run_dir}")
