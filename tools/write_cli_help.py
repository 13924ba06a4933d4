"""Keep docs/cli.md true: put the help of every command into its block. A test holds that nothing is left to do.

python tools/write_cli_help.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

from edgekit.cli.main import main
from edgekit.core.storage import write_text

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 100
_BLOCK = re.compile(r"```text\n\$ (edgekit[a-z ]*) --help\n.*?```\n", flags=re.DOTALL)


def help_of(command: str) -> str:
    """Help text of `edgekit`, `edgekit zoo`, ..., in 100 columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            main([*command.split()[1:], "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().strip().splitlines())


def refresh(page: str) -> str:
    """The page with every help block as the command prints it now."""
    return _BLOCK.sub(lambda match: f"```text\n$ {match[1]} --help\n{help_of(match[1])}```\n", page)


if __name__ == "__main__":
    write_text(PAGE, refresh(PAGE.read_text(encoding="utf-8")))
