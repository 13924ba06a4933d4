"""A flash with nothing in edgekit's place: a real environment, the board's own installer, an agent that classifies.

Only systemd is missing. The packages of the agent come from this machine's, so that no network is needed; edgekit
itself is the wheel that was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import write_run
from command_line import Outcome, edgekit
from ssh_board import SshBoard

pytest.importorskip("edgekit.agent.install.installer")

pytestmark = pytest.mark.slow


def test_run_is_installed_served_exchanged_and_rolled_back(
    new_board: Callable[..., SshBoard], wheelhouse: Path, tmp_path: Path
) -> None:
    board = new_board(python="", packages=Path(np.__file__).parent.parent)
    (board.root / "model").unlink()  # so that it is what it really is
    page = ("--http", f"127.0.0.1:{board.page_port}", "--camera", "synthetic", "--wheels", str(wheelhouse))

    def flash(run: Path, *options: str) -> Outcome:
        return edgekit("flash", board.address, run, "--identity", board.key, *page, "--soak", "0.5", "--json", *options)

    first = flash(write_run(tmp_path / "one", seed=3), "--accept-new")

    assert first.code == 0, first
    running = first.document["running"]
    assert (running["state"], running["model"]) in {("serving", "tiny"), ("waiting", "tiny")}
    findings = {one["rule"]: one["outcome"] for one in first.document["verdict"]["findings"]}
    assert findings["golden"] == findings["frames"] == "passed"
    assert f"edgekit {_version()}" in _run(board, "--version")

    again = flash(tmp_path / "one")
    assert (again.code, again.document["steps"], again.document["num_bytes"]) == (0, [], 0)

    second = flash(write_run(tmp_path / "two", seed=4))
    assert second.code == 0, second
    assert second.document["running"]["digest"] == second.document["digest"] != first.document["digest"]
    assert [step["kind"] for step in second.document["steps"]] == ["make_folders", "install_bundle"]

    back = edgekit("device", "rollback", "127.0.0.1", "--identity", board.key)
    assert back.code == 0, back
    served = first.document["running"]["model_sha256"]
    deadline = time.monotonic() + 30  # the agent changes models between two frames, and tells so in its next snapshot
    while (one := _status(board)["running"])["model_sha256"] != served and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (one["digest"], one["model_sha256"]) == (first.document["digest"], served)

    forbidden = flash(tmp_path / "two")
    assert forbidden.code == 1
    assert "quarantine" in forbidden.err


def _status(board: SshBoard) -> Any:
    (one,) = edgekit("device", "status", "--identity", board.key, "--json").document["boards"]
    return one


def _version() -> str:
    from edgekit import __version__

    return __version__


def _run(board: SshBoard, *words: str) -> str:
    import subprocess

    program = board.root / "opt/edgekit/venv/bin/edgekit"
    done = subprocess.run(
        [program, *words],
        env={"PYTHONPATH": str(Path(np.__file__).parent.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
