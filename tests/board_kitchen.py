"""A bare board to flash, what it says of itself, and bundles for it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from command_line import Outcome, assert_fails, edgekit
from edgekit.bundle.manifest import LOGITS, Manifest
from edgekit.bundle.reading import open_bundle, read_file
from emulated_device.board import Board
from install_bundles import rewrite_bundle

_STATE = "/var/lib/edgekit"

# What the board itself says: systemd's view, and every byte of the release that `current` names against its manifest.
_ASK = f"""
systemctl show -p ActiveState,MainPID,NRestarts edgekit-agent
echo current=$(readlink {_STATE}/current)
echo manifest=$(sha256sum <{_STATE}/current/manifest.json)
echo leftovers=$(find {_STATE}/incoming {_STATE}/trial {_STATE}/releases/.new-* -mindepth 1 2>/dev/null | wc -l)
echo releases=$(ls -A {_STATE}/releases | wc -l)
"""
_CHECK = f"""
import sys
from pathlib import Path
from edgekit.bundle.reading import open_bundle
print(open_bundle(Path("{_STATE}/current")).digest)
"""


class Bundles(NamedTuple):
    """Two good releases, one that is not, and a newer one for the repository."""

    first: Path
    second: Path
    bad: Path
    newest: Path


class Kitchen:
    """The board, and what is done to it."""

    def __init__(self, board: Board, wheels: Path) -> None:
        self.board = board
        self.remote = board.remote
        self._wheels = wheels

    @property
    def address(self) -> str:
        return f"root@{self.remote.host}"

    def words(self, bundle: Path, *options: str | Path) -> tuple[str | Path, ...]:
        """The command that flashes it; a second of soak is enough here."""
        access = ("--identity", self.remote.key, "--accept-new", "--wheels", self._wheels)
        return ("flash", self.address, bundle, *access, "--soak", "1", "--json", *options)

    def flash(self, bundle: Path, *options: str | Path) -> Outcome:
        return edgekit(*self.words(bundle, *options))

    def device(self, verb: str, *words: str | Path) -> Outcome:
        return edgekit("device", verb, *words, "--identity", self.remote.key, "--json")

    def ask(self) -> dict[str, str]:
        """Process and release, as the board has them."""
        lines = self.remote.run(_ASK).splitlines()
        pairs = (line.partition("=") for line in lines)
        said = {key: value for key, _, value in pairs}
        said["digest"] = said["manifest"].split()[0]
        return said

    def whole_digest(self) -> str:
        """Of the release that `current` names, every file of it hashed there."""
        return self.remote.run(f"/opt/edgekit/venv/bin/python - <<'END'\n{_CHECK}\nEND").strip()

    def serving(self, deadline_s: float = 300.0) -> dict[str, Any]:
        """What runs, once the agent answers frames."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            done = self.device("status", self.remote.host)
            (one,) = done.document["boards"]
            running = one.get("running") or {}
            if done.code == 0 and running.get("state") == "serving" and running.get("answer"):
                return running
            time.sleep(2)
        raise AssertionError(f"it does not serve: {done}")

    @property
    def disk(self) -> Path:
        """Its state folder, seen from the host: what it wrote lies in the overlay's upper folder."""
        return self.board.folder / "upper" / _STATE.lstrip("/")


def note(text: str) -> None:
    """A figure for whoever runs the tests with -s."""
    sys.stdout.write(f"\n    {text}\n")


def assert_fails_after_steps(outcome: Outcome, code: int, *words: str) -> None:
    """As `assert_fails`, with lines that say what is being done before."""
    lines = outcome.err.splitlines()
    first = next((index for index, line in enumerate(lines) if line.startswith("error: ")), 0)
    assert_fails(outcome._replace(err="\n".join(lines[first:])), code, *words)


def make_bundles(folder: Path) -> Bundles:
    """The built-in MobileNet at 8 bits, calibrated in two ways, and a release with wrong golden answers."""
    first = _bundle(folder, 1)
    second = _bundle(folder, 2, "--set", "quantize.ranges=minmax")
    logits = np.frombuffer(read_file(open_bundle(second), LOGITS), "<f4").reshape(-1, 10)
    wrong = np.roll(logits, 1, axis=1)

    def spoil(manifest: Manifest) -> Manifest:
        golden = msgspec.structs.replace(manifest.golden, top1=tuple(int(one) for one in wrong.argmax(1)))
        return msgspec.structs.replace(manifest, release=3, golden=golden)

    bad = rewrite_bundle(second, folder / "bad.ekb", spoil, logits_bin=wrong.astype("<f4").tobytes())
    newest = rewrite_bundle(first, folder / "4.ekb", lambda one: msgspec.structs.replace(one, release=4))
    return Bundles(first, second, bad, newest)


def _bundle(folder: Path, release: int, *options: str) -> Path:
    run_dir, path = folder / f"run-{release}", folder / f"{release}.ekb"
    made = edgekit("compress", "mobilenet", "--bits", "8", "--out", run_dir, *options)
    assert made.code == 0, made
    words = ("--for", "raspberry_pi_4b", "--release", str(release), "--name", "kitchen", "--out", path)
    assert edgekit("bundle", run_dir, *words).code == 0
    return path
