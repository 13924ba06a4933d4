"""Run `edgekit` in this process, as quick as a function call, or in one of its own where signals and pipes matter."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, NamedTuple

from edgekit.cli.main import main


class Outcome(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything else there is an error."""
        return json.loads(self.out)


def edgekit(*arguments: str | Path) -> Outcome:
    """Run a command in this process; neither stream is a terminal."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    texts = []
    for stream in (out, err):
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        texts.append(stream.buffer.getvalue().decode())
    return Outcome(code, *texts)


def assert_fails(outcome: Outcome, code: int, *words: str) -> None:
    """The command ended with `code`, nothing on stdout, and an error and a hint on stderr that hold the words."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if not line.startswith(("left out:", "INFO:"))]
    assert len(lines) in {1, 2}, outcome.err
    assert lines[0].startswith("error: ")
    assert all(line.startswith(" hint: ") for line in lines[1:])
    for word in words:
        assert word in outcome.err, f"{word!r} is not in {outcome.err!r}"


def start_process(
    *arguments: str | Path, stdout: int | IO[bytes], stderr: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "edgekit.cli.main", *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "NO_COLOR": "1"}
    return subprocess.Popen(command, env=environ, stdout=stdout, stderr=stderr)
