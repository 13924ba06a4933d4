"""`edgekit data`: datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.console import plain_table, print_json, show

if TYPE_CHECKING:
    from edgekit.data.dataset import Split

app = typer.Typer(help="Datasets: list them, name a folder of your own, look at one.", no_args_is_help=True)


@app.command("list")
def list_command(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List the datasets, and where each lies on this machine."""
    from edgekit.data.opening import list_datasets

    listings = list_datasets()
    if as_json:
        print_json({"datasets": listings})
        return
    rows: list[tuple[str, ...]] = []
    for listing in listings:
        place = listing.path or ("downloaded when first used" if listing.is_downloadable else "not found")
        rows.append((listing.name, listing.title, listing.license or "-", str(place)))
    titles = ("name", "what", "license", "where")
    show(plain_table(titles, rows, left=titles))


@app.command("add")
def add_command(
    name: Annotated[str, typer.Argument(help="Name to use with --data.")],
    path: Annotated[Path, typer.Argument(help="Folder of class folders, or of pictures.")],
) -> None:
    """Give a folder of pictures a name."""
    from edgekit.data.aliases import add_dataset

    add_dataset(name, path)
    show(f"{name} is now {path.resolve()}")


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Dataset or folder.")],
    split: Annotated[str, typer.Option(help="train, calibration or test.")] = "train",
    out: Annotated[Path | None, typer.Option(help="Picture to write.  [default: NAME-SPLIT.png]")] = None,
) -> None:
    """Draw a contact sheet: some pictures of every class, with the counts."""
    from edgekit.core.errors import UnknownNameError
    from edgekit.data.contact_sheet import draw_contact_sheet
    from edgekit.data.opening import find_dataset, open_source

    splits: dict[str, Split] = {"train": "train", "calibration": "calibration", "test": "test"}
    if split not in splits:
        raise UnknownNameError("split", split, splits)
    if split == "train" and "train" not in find_dataset(name).splits:
        split = "test"
    source = open_source(name, splits[split])
    path = out or Path(f"{source.name}-{split}.png")
    draw_contact_sheet(source, path)
    show(f"{path}: {len(source):,} pictures, {len(source.class_names)} classes")
