"""Ask peers (litert-torch, ai-edge-quantizer, nncf, ...) to do the same job, in whichever interpreter has them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from benchmarking import REPOSITORY, Sample, note
from edgekit.core.errors import EdgekitError

INSTALL_HINT = (
    "make an environment of its own: pip install -c constraints-peers.txt -e '.[host,peers]'; "
    "then give --peers-python ENVIRONMENT/bin/python"
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker answers to one job.

    Args:
        wall_s: Wall time of the work, imports left out.
        cpu_s: CPU time likewise.
        missing: Package that is not installed there.
        peak_rss_mib: Largest resident memory of the worker so far.
        error: Why the peer could not do it.
    """

    wall_s: float | None = None
    cpu_s: float | None = None
    peak_rss_mib: float | None = None
    missing: str | None = None
    error: str | None = None


class Peers:
    """A worker process in the peers' interpreter, for as long as the benchmark runs.

    Args:
        jobs: The worker's standard input.
        answers: The worker's standard output.
    """

    def __init__(self, jobs: IO[bytes], answers: IO[bytes]) -> None:
        self._jobs = jobs
        self._answers = answers
        self._said: set[str] = set()
        self.peak_rss_mib: float | None = None
        """Largest resident memory of the worker, as of its last answer."""
        self.failure = ""
        """Why the last job was not done."""

    def ask(self, job: str, **settings: str) -> Sample | None:
        """Have a job of `peer_jobs.py` done.

        Args:
            job: Name of the job.
            settings: Its paths and settings.

        Returns:
            What it took; None when the peer is missing or failed (said on standard error, once for each reason).

        Raises:
            EdgekitError: The worker is gone.
        """
        try:
            self._jobs.write(msgspec.json.encode({"job": job, **settings}) + b"\n")
            self._jobs.flush()
        except BrokenPipeError:
            line = b""
        else:
            line = self._answers.readline()
        if not line:
            raise EdgekitError("the peers' interpreter has ended", hint="what it printed last says why")
        return self._read(job, msgspec.json.decode(line, type=Answer))

    def _read(self, job: str, answer: Answer) -> Sample | None:
        self.peak_rss_mib = answer.peak_rss_mib
        if answer.wall_s is not None and answer.cpu_s is not None:
            self.failure = ""
            return Sample(wall_s=answer.wall_s, cpu_s=answer.cpu_s)
        reason = f"{job} failed: {answer.error}"
        if answer.missing:
            reason = f"{job}: not measured, the peers' interpreter has no {answer.missing}; {INSTALL_HINT}"
        self.failure = reason
        if reason not in self._said:
            self._said.add(reason)
            note(reason)
        return None


@contextmanager
def start_peers(python: str) -> Iterator[Peers]:
    """A worker for as long as the context lasts.

    Args:
        python: Interpreter that has the peers, or as many of them as there are.

    Raises:
        EdgekitError: No such interpreter.
    """
    search_path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    try:
        worker = subprocess.Popen(
            [python, str(Path(__file__).with_name("peer_jobs.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search_path},
        )
    except OSError as error:
        raise EdgekitError(
            f"cannot start the peers' interpreter {python}: {error.strerror}", hint=INSTALL_HINT
        ) from error
    with worker:
        if worker.stdin is None or worker.stdout is None:
            raise EdgekitError("the peers' interpreter has no pipes")
        try:
            yield Peers(worker.stdin, worker.stdout)
        finally:
            worker.stdin.close()
            worker.terminate()
