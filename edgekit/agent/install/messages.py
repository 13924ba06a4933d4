"""What the installer asks of a trial, and what the trial tells: one JSON document a line, over pipes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edgekit.agent.camera import CameraRequest
from edgekit.agent.model import ModelSettings

Stage: TypeAlias = Literal["starting", "loading", "timing", "watching", "soaking", "done"]

FailureKind: TypeAlias = Literal["loads", "golden", "finite", "compatible", "environment"]
"""`environment`: nothing that the model can help (no runtime, no space)."""


class FrameSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Live frames for a trial: from one of two places, or none by an explicit waiver.

    Args:
        snapshot_url: Address of the serving agent's `/snapshot.jpg`.
        token: For it; None when it wants none.
        camera: A camera that nobody else has open.
        num: How many frames are answered.
        timeout_s: For all of them.
    """

    snapshot_url: str | None = None
    token: str | None = None
    camera: CameraRequest | None = None
    num: int = 10
    timeout_s: float = 30.0

    @property
    def is_waived(self) -> bool:
        """Whether there are none, on purpose."""
        return self.snapshot_url is None and self.camera is None

    def __repr__(self) -> str:
        """All but the token."""
        return f"FrameSettings(snapshot_url={self.snapshot_url!r}, camera={self.camera!r}, num={self.num}, ...)"


class TrialSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is tried.

    Args:
        model: How it runs; as the agent that will serve it.
        frames: Where live frames come from.
        num_queries: Inferences that are timed; below 64 no p90 can be told.
        soak_s: How long it has to live, from its first answer on.
        silence_s: How long it may say nothing before it counts as hanging.
        deadline_s: How long everything may take.
        max_rss_mib: Above this it is killed at once, budget or not; None for what the manifest says it needs.
    """

    model: ModelSettings = ModelSettings()
    frames: FrameSettings = FrameSettings()
    num_queries: int = 200
    soak_s: float = 30.0
    silence_s: float = 60.0
    deadline_s: float = 300.0
    max_rss_mib: float | None = None


class TrialOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a trial process is told.

    Args:
        bundle: Folder of the staged release.
        work_dir: Where it may write.
        settings: How it is tried.
        parent_pid: Whose child it is; it ends with it.
        max_bytes: Of private memory that it may ask the system for.
    """

    bundle: str
    work_dir: str
    settings: TrialSettings
    parent_pid: int
    max_bytes: int


class Alive(msgspec.Struct, frozen=True, kw_only=True, tag="alive"):
    """A sign of life.

    Args:
        stage: Where it is.
    """

    stage: Stage


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The trial found a reason by itself and ended.

    Args:
        kind: Which rule it broke.
        stage: Where.
        message: Where, expected, got.
    """

    kind: FailureKind
    stage: Stage
    message: str


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured"):
    """Everything that a trial that came to its end found out.

    Args:
        runtime: Runtime and version.
        labels: Class names that the model was loaded with.
        input_shape: [height, width, channels] that the model takes.
        num_classes: That it answers for.
        load_ms: To load it.
        num_golden: Golden pictures that were answered right, before the soak and after it.
        num_not_finite: Answers with NaN or infinity, golden pictures and frames together.
        query_ms: Wall time of each timed inference.
        peak_rss_mib: Of its process, as the system counts.
        num_frames: Live frames that were answered.
        frames_detail: Why they were too few; "" when they were not.
        lived_s: From its first answer to the end of the soak.
    """

    runtime: str
    labels: tuple[str, ...]
    input_shape: tuple[int, int, int]
    num_classes: int
    load_ms: float
    num_golden: tuple[int, int]
    num_not_finite: int
    query_ms: tuple[float, ...]
    peak_rss_mib: float
    num_frames: int
    frames_detail: str
    lived_s: float


Message: TypeAlias = Alive | Failed | Measured

Killed: TypeAlias = Literal["silent", "late", "too_large"]


class TrialReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known after a trial, whatever became of it.

    Args:
        measured: What it told at its end; None when it did not get there.
        failed: Why it gave up by itself.
        killed: Why the installer ended it; None when it did not.
        stage: The last that it told of.
        exit_code: Of its process; negative for a signal.
        peak_rss_mib: Seen from outside.
        seconds: That it took.
        last_words: The end of its standard error.
    """

    measured: Measured | None = None
    failed: Failed | None = None
    killed: Killed | None = None
    stage: Stage = "starting"
    exit_code: int = 0
    peak_rss_mib: float = 0.0
    seconds: float = 0.0
    last_words: str = ""
