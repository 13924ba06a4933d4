"""How long nobody is answered when a flash changes the model, and how long a flash takes that has nothing to do.

    python tools/bench_flash.py [--quick] [--runs RUN RUN] [--exchanges N] [--again N]

The board is the tests' (`tests/ssh_board.py`): a real OpenSSH server on this machine, a folder for the board's root,
the real agent, installer and trial, a synthetic camera at 30 frames a second; only systemd and the packages' download
are stand-ins. Two models change places by `edgekit flash`, again and again, while the agent's own page tells every
answer. One JSON document on standard output:

- `serving_gap_*`: longest time between two answers from the last snapshot that names the old model to the first that
  names the new one, over all exchanges (bar: 1 s at most); `calm_gap_*`: the same in a window as long just before each
  flash, which is what the machine does to the agent without any; `trial_gap_max_s`: in all of the flashes;
- `second_flash_*`: a flash of what serves, connection and all (bar: 2 s, nothing sent); `second_flash_command_*`: with
  the start of the program, which is Python's; `second_flash_cpu_*`: its CPU time, without that of the board;
- `*_bytes`: what was sent.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarking import REPOSITORY, Figure, arguments, machine_figures, note, print_document
from edgekit.deploy.bundling import bundle_run
from install_bundles import write_tiny_bundle

sys.path.append(str(REPOSITORY / "tests"))

NUM_EXCHANGES, NUM_AGAIN = 20, 10
QUICK_EXCHANGES, QUICK_AGAIN = 2, 2
FPS = 30
_CONFIG = """\
bundle = "{state}/current"
state_dir = "{state}"

[camera]
source = "synthetic:640x480@{fps}"

[web]
port = {port}
max_fps = 120.0
"""
_READY_S = 120.0
_AFTER_S = 2.0


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of models.

    Args:
        began_s: Start of the flash.
        ended_s: Its end.
        num_bytes: Sent for it.
    """

    began_s: float
    ended_s: float
    num_bytes: int


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """One flash of what serves already.

    Args:
        seconds: From the first packet to the last.
        command_s: Of the whole program.
        cpu_s: Of the whole program, CPU time.
        num_bytes: Sent for it.
    """

    seconds: float
    command_s: float
    cpu_s: float
    num_bytes: int


class Listener:
    """Hears every answer and every snapshot of an agent, in a thread.

    Args:
        port: Of its page.
    """

    def __init__(self, port: int) -> None:
        self.answers_s: list[float] = []
        self.models: list[tuple[float, str]] = []
        self._port = port
        self._is_over = False
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Hear no more; what was heard stays."""
        self._is_over = True

    def wait_for_model(self, name: str) -> None:
        """Wait until a snapshot names a model that is not `name`, and some answers after that."""
        until_s = time.monotonic() + _READY_S
        while not self.models or self.models[-1][1] == name:
            if time.monotonic() > until_s:
                raise SystemExit("the agent does not change its model")
            time.sleep(0.05)
        time.sleep(_AFTER_S)

    def _listen(self) -> None:
        while not self._is_over:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("GET", "/predictions")
                for line in connection.getresponse():
                    if line.startswith(b"data: {"):
                        self._hear(json.loads(line[6:]))
            except (OSError, http.client.HTTPException):
                time.sleep(0.2)
            finally:
                connection.close()

    def _hear(self, told: dict[str, Any]) -> None:
        now_s = time.monotonic()
        if "since_ms" in told:
            self.answers_s.append(now_s - told["since_ms"] / 1e3)
        elif told.get("model"):
            self.models.append((now_s, told["model"]["sha256"]))


def main() -> None:
    """Measure, and print the document."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs=2, type=Path, metavar="RUN", help="two models; default: tiny ones")
    parser.add_argument("--exchanges", type=int, help=f"default: {NUM_EXCHANGES}, quick {QUICK_EXCHANGES}")
    parser.add_argument("--again", type=int, help=f"default: {NUM_AGAIN}, quick {QUICK_AGAIN}")
    given = parser.parse_args()
    num = given.exchanges or (QUICK_EXCHANGES if given.quick else NUM_EXCHANGES)
    num_again = given.again or (QUICK_AGAIN if given.quick else NUM_AGAIN)
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as scratch, _isolated(Path(scratch)):
        print_document({**machine_figures(), **measure(Path(scratch), given.runs, num, num_again)})


def measure(folder: Path, runs: Sequence[Path] | None, num: int, num_again: int) -> dict[str, Figure]:
    """Flash a board until enough is known."""
    from ssh_board import SshBoard, wait_for
    from wheels import write_wheelhouse

    bundles = [bundle_run(run, folder / "bundles") for run in runs or _tiny_runs(folder)]
    board = SshBoard(folder / "board", python="", packages=Path(np.__file__).parent.parent)
    (board.root / "model").unlink()  # so that it is the machine that it really is
    config = board.root / "etc/edgekit/agent.toml"
    config.parent.mkdir(parents=True)
    config.write_text(_CONFIG.format(state=board.state, port=board.page_port, fps=FPS), encoding="utf-8")
    os.environ["EDGEKIT_BOARD_PREFIX"] = board.user_and_prefix
    words = ("--identity", board.key, "--accept-new", "--wheels", write_wheelhouse(folder / "wheels"), "--soak", "0.5")
    board.start()
    try:
        first = _flash(board.address, bundles[0], *words)
        note(f"first flash {first['seconds']:.1f} s")
        listener = Listener(board.page_port)
        listener.wait_for_model("")
        exchanges = [
            _exchange(listener, (board.address, bundles[number % 2], *words), f"{number} of {num}")
            for number in range(1, num + 1)
        ]
        listener.stop()
        again = [_again(board.address, bundles[num % 2], *words) for _ in range(num_again)]
    finally:
        pid = (board.root / "run/agent.pid").read_text("ascii").strip()
        board.stop()
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "end of the agent")
    return {
        "model_bytes": bundles[0].stat().st_size,
        "first_flash_s": first["seconds"],
        **gap_figures(listener, exchanges),
        **_again_figures(again),
    }


def _exchange(listener: Listener, words: tuple[str | Path, ...], which: str) -> Exchange:
    model, began_s = listener.models[-1][1], time.monotonic()
    done = _flash(*words)
    listener.wait_for_model(model)
    note(f"exchange {which}: {done['seconds']:.1f} s")
    return Exchange(began_s=began_s, ended_s=time.monotonic(), num_bytes=done["num_bytes"])


def _again(*words: str | Path) -> Again:
    began_s, cpu_s = time.monotonic(), _children_cpu_s()
    done = _flash(*words)
    if done["steps"]:
        raise SystemExit(f"a second flash has something to do: {done['steps']}")
    return Again(
        seconds=done["seconds"],
        command_s=time.monotonic() - began_s,
        cpu_s=_children_cpu_s() - cpu_s,
        num_bytes=done["num_bytes"],
    )


def _children_cpu_s() -> float:
    """CPU time of the programs that were started here and have ended; the board's server lives on."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _flash(*words: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgekit.cli.main", "flash", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a flash failed with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def gap_figures(listener: Listener, exchanges: list[Exchange]) -> dict[str, Figure]:
    """Gaps at the changes, before them, and in the flashes as a whole."""
    serving, calm, trial = [], [], []
    for one in exchanges:
        changes = [
            (before[0], after[0])
            for before, after in itertools.pairwise(listener.models)
            if before[1] != after[1] and one.began_s < after[0] <= one.ended_s
        ]
        ((from_s, to_s),) = changes
        serving.append(longest_gap(listener.answers_s, from_s, to_s))
        calm.append(longest_gap(listener.answers_s, one.began_s - (to_s - from_s), one.began_s))
        trial.append(longest_gap(listener.answers_s, one.began_s, one.ended_s))
    return {
        "num_exchanges": len(exchanges),
        **_spread("serving_gap", serving),
        **_spread("calm_gap", calm),
        "trial_gap_max_s": round(max(trial), 3),
        "num_answers": len(listener.answers_s),
        "exchange_bytes": exchanges[0].num_bytes,
    }


def _again_figures(again: list[Again]) -> dict[str, Figure]:
    return {
        "num_second_flashes": len(again),
        **_spread("second_flash", [one.seconds for one in again]),
        **_spread("second_flash_command", [one.command_s for one in again]),
        **_spread("second_flash_cpu", [one.cpu_s for one in again]),
        "second_flash_bytes": sum(one.num_bytes for one in again),
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, Figure]:
    return {f"{name}_median_s": round(statistics.median(values), 3), f"{name}_max_s": round(max(values), 3)}


def longest_gap(times_s: Sequence[float], from_s: float, to_s: float) -> float:
    """The longest time between two answers of which some lies between two moments; all of it counts.

    >>> longest_gap([0.0, 1.0, 1.5, 4.0], 1.2, 1.4)
    0.5
    """
    return max(later - earlier for earlier, later in itertools.pairwise(times_s) if later >= from_s and earlier <= to_s)


def _tiny_runs(folder: Path) -> list[Path]:
    for number in (1, 2):
        write_tiny_bundle(folder / "tiny", number)
    return sorted((folder / "tiny").glob("run-*"))


@contextlib.contextmanager
def _isolated(folder: Path) -> Iterator[None]:
    """While inside, commands see neither the user's keys nor his list of boards."""
    home = folder / "home"
    home.mkdir()
    changes = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONPATH": str(REPOSITORY),
    }
    os.environ.update(changes)
    os.environ.pop("SSH_AUTH_SOCK", None)
    yield


if __name__ == "__main__":
    main()
