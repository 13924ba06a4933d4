"""README.md is executed: its blocks marked `fast` and `slow` here, those marked `ci` by .ci/run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from readme_blocks import Block, read_blocks

REPOSITORY = Path(__file__).resolve().parent.parent
BLOCKS = read_blocks((REPOSITORY / "README.md").read_text(encoding="utf-8"))


def blocks_to_run() -> list[object]:
    """Each block as a parameter; the slow ones carry the marker."""
    return [
        pytest.param(block, id=f"line{block.line}", marks=pytest.mark.slow if block.run == "slow" else ())
        for block in BLOCKS
        if block.run in {"fast", "slow"}
    ]


@pytest.mark.parametrize("block", blocks_to_run())
def test_readme_block_runs(block: Block, tmp_path: Path) -> None:
    script = "\n".join(["set -euo pipefail", *block.commands])
    command = ["bash", "-c", script] if block.language == "console" else [sys.executable, "-c", block.text]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"README.md line {block.line}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_readme_leaves_the_two_main_commands_to_ci() -> None:
    commands = [command for block in BLOCKS if block.run == "ci" for command in block.commands]

    # .ci/run executes them in this order, and its last lines must be the test summary.
    assert commands == ["make demo", "make test"]


def test_readme_links_lead_to_files() -> None:
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    targets = [part.split(")")[0] for part in page.split("](")[1:]]

    assert targets
    missing = [target for target in targets if "://" not in target and not (REPOSITORY / target).exists()]
    assert not missing
