"""The code blocks of a Markdown page that are executed, and by whom.

Every ```console and ```python block stands under a comment that says so:

    <!-- run: fast -->  in a temporary folder, by tests/test_readme.py
    <!-- run: slow -->  likewise, with the slow tests
    <!-- run: ci -->    in the repository's root, by .ci/run
    <!-- run: no (the reason) -->

    python tools/readme_blocks.py --run ci README.md    prints the commands of the `ci` blocks, one a line
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

RUNS = ("fast", "slow", "ci", "no")

_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- run: (\w+)(?: \((.+)\))? -->\n\Z")


class Block(NamedTuple):
    """One code block.

    Attributes:
        line: Line of the page on which it opens, from 1.
        language: "console" or "python".
        run: "fast", "slow", "ci" or "no".
        text: What stands between the fences.
    """

    line: int
    language: str
    run: str
    text: str

    @property
    def commands(self) -> list[str]:
        """What a console block types at its prompts, continued lines joined, comments kept for the shell to skip."""
        joined = self.text.replace("\\\n", "")
        return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def read_blocks(page: str) -> list[Block]:
    r"""All console and python blocks of a page.

    Args:
        page: Markdown text.

    Raises:
        ValueError: A block without a marker, with an unknown one, or one that is not run and does not say why.

    >>> read_blocks("<!-- run: fast -->\n```console\n$ echo a\n```\n")[0].commands
    ['echo a']
    """
    blocks: list[Block] = []
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        marker = _MARKER.search(page[: match.start()])
        if marker is None or marker[1] not in RUNS:
            raise ValueError(f"line {line}: no <!-- run: {' | '.join(RUNS)} --> right above this block")
        if marker[1] == "no" and not marker[2]:
            raise ValueError(f"line {line}: <!-- run: no (the reason) --> lacks the reason")
        blocks.append(Block(line, match[1], marker[1], match[2]))
    return blocks


def main(arguments: list[str] | None = None) -> int:
    """Print the commands of the console blocks with one marker."""
    parser = argparse.ArgumentParser(description="Print the commands of a page's console blocks.")
    parser.add_argument("--run", choices=RUNS, required=True, help="which blocks")
    parser.add_argument("page", type=Path, help="a Markdown file")
    options = parser.parse_args(arguments)
    for block in read_blocks(options.page.read_text(encoding="utf-8")):
        if block.run == options.run and block.language == "console":
            print("\n".join(block.commands))
    return 0


if __name__ == "__main__":
    sys.exit(main())
