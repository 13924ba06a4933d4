"""Stand-ins for installations: a trial that tells what a test wrote, and an agent that takes or refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgekit.agent.install.installer import Installer, InstallRequest
from edgekit.agent.install.messages import Failed, Measured, TrialReport, TrialSettings
from edgekit.bundle.compatibility import DeviceFacts
from edgekit.bundle.manifest import Manifest

FACTS = DeviceFacts(board="host_cpu")
REQUEST = InstallRequest(trial=TrialSettings(soak_s=0))
LABELS = ("ant", "bee", "cat", "dog", "emu", "fox", "gnu")


class Releases(NamedTuple):
    """Bundles, and what names them."""

    paths: tuple[Path, ...]
    digests: tuple[str, ...]


def measured(manifest: Manifest, **changes: Any) -> Measured:
    """What a good model's trial tells."""
    num = len(manifest.golden.top1)
    model = manifest.model
    told = Measured(
        runtime="fake 1.0",
        labels=LABELS,
        input_shape=(*model.input_size, model.num_channels),
        num_classes=model.num_classes,
        load_ms=1.0,
        num_golden=(num, num),
        num_not_finite=0,
        query_ms=(1.0,) * 200,
        peak_rss_mib=50.0,
        num_frames=0,
        frames_detail="",
        lived_s=1.0,
    )
    return msgspec.structs.replace(told, **changes)


class Trial:
    """A trial that passes, or goes as a test wants it; remembers that it was asked."""

    def __init__(self, become: Callable[[TrialReport], TrialReport] = lambda report: report) -> None:
        self._become = become
        self.folders: list[Path] = []

    def __call__(self, folder: Path, manifest: Manifest, work_dir: Path, settings: TrialSettings) -> TrialReport:
        del settings
        work_dir.mkdir(exist_ok=True)
        (work_dir / "scratch").write_bytes(b"left behind")
        self.folders.append(folder)
        return self._become(TrialReport(measured=measured(manifest), stage="done"))


def crashing() -> Trial:
    """A trial whose process ends by SIGSEGV."""
    return Trial(lambda _: TrialReport(stage="loading", exit_code=-11, seconds=0.5))


def without_runtime() -> Trial:
    """A trial that the machine does not let happen."""
    return Trial(lambda _: TrialReport(failed=Failed(kind="environment", stage="loading", message="no runtime here")))


class Told:
    """The agent that serves, as `activate`: takes what it is told, or refuses it."""

    def __init__(self, refused: str | None = None) -> None:
        self._refused = refused
        self.digests: list[str | None] = []

    def __call__(self, digest: str | None) -> str:
        self.digests.append(digest)
        return "golden picture 3 is wrong here" if digest == self._refused else ""


def installer(state: Path, trial: Trial | None = None, told: Told | None = None) -> Installer:
    return Installer(
        state, try_out=trial or Trial(), activate=told or Told(), facts=FACTS, clock=lambda: 1_700_000_000.0
    )


def listing(state: Path) -> list[str]:
    """Everything below a state folder but the record and the lock, by its path."""
    return sorted(
        str(path.relative_to(state))
        for path in state.rglob("*")
        if (not path.name.startswith("install.") and path.is_file()) or path.is_symlink()
    )
