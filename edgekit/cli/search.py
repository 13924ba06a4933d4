"""`edgekit search`: the pictures that are most like one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, model_file, note, print_json, show_lines, unreadable_lines


def search(
    folder: Annotated[Path, typer.Argument(help="Pictures in it and below it are compared.")],
    like: Annotated[Path, typer.Option("--like", metavar="PICTURE", help="The picture that they are compared with.")],
    model: Annotated[
        Path, typer.Option("--model", metavar="EXTRACTOR", help="File or run folder that `edgekit embed` made.")
    ],
    top: Annotated[int, typer.Option(min=1, help="How many of the nearest are shown.")] = 10,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="FILE", help="Where features are kept.  [default: the user's cache folder]"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Find the pictures in a folder that are most like one.

    A second search describes new and changed pictures only. Works on a board: it needs the extra `runtime` alone.
    """
    from edgekit.retrieval.search import SearchRequest
    from edgekit.retrieval.search import search as find

    path = model_file(model)
    request = SearchRequest(folder=folder, like=like, model=path, top=top, index_path=index, num_threads=threads)
    with Bars() as bars:
        found = find(request, bars)
    for line in unreadable_lines(found.unreadable, found.num_unreadable):
        note(line)
    if as_json:
        print_json(
            {
                "model": path,
                "like": like,
                "matches": [
                    {"path": _as_unicode(match.path), "similarity": match.similarity} for match in found.matches
                ],
                "num_pictures": found.num_pictures,
                "num_described": found.num_described,
                "num_unreadable": found.num_unreadable,
                "unreadable": [_as_unicode(reason) for reason in found.unreadable],
                "index": found.index_path,
            }
        )
        return
    show_lines(
        f"{rank:3}  {match.similarity:7.4f}  {_as_unicode(match.path)}"
        for rank, match in enumerate(found.matches, start=1)
    )
    note(f"{found.num_pictures:,} pictures compared, {found.num_described:,} of them new")


def _as_unicode(name: str) -> str:
    r"""A file name as JSON can hold it: bytes that are no UTF-8 read as `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()
