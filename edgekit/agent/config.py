"""Everything an agent can be told, as one typed document: a TOML file on a board, options on a command line."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekit.agent.camera import CameraRequest, check_camera, parse_camera
from edgekit.agent.loop import LoopSettings
from edgekit.agent.model import ModelSettings
from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.telemetry.drift import DriftConfig
from edgekit.agent.telemetry.recorder import RecorderConfig
from edgekit.agent.telemetry.sample_store import SampleConfig
from edgekit.agent.update.config import UpdateSection
from edgekit.agent.web.config import WebConfig
from edgekit.core.errors import UsageError

_UNFIT_FOR_NAME = re.compile(r"[^A-Za-z0-9_-]")


class CameraSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The camera.

    Args:
        source: Index, path, address, or KIND:SOURCE, as after `--camera`.
        width: Of the pictures, pixels; None for what the camera likes best.
        height: Of the pictures.
        fps: Frames per second to ask for; None for what the camera says.
        loop: Files: begin again at the end.
        paced: Files and synthetic: at their own pace; False: as fast as frames are answered, none dropped.
        full_decode: Decode JPEG in full even where the model needs only a half or a quarter of it.
        read_timeout_s: How long one picture may take before the camera counts as lost; None: from the frame rate, at
            least 2 s.
        frozen_after: How many equal pictures in a row are called frozen.
    """

    source: str = "0"
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    loop: bool = False
    paced: bool = True
    full_decode: bool = False
    read_timeout_s: float | None = None
    frozen_after: int = 60

    def request(self) -> CameraRequest:
        """What is asked of the camera.

        Raises:
            UsageError: The source means no camera, or a value is out of range.
            DataError, MissingDependencyError: As `check_camera`.
        """
        request = msgspec.structs.replace(
            parse_camera(self.source),
            width=self.width,
            height=self.height,
            fps=self.fps,
            loop=self.loop,
            paced=self.paced,
            read_timeout_s=self.read_timeout_s,
            frozen_after=self.frozen_after,
        )
        check_camera(request)
        return request


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent.

    Args:
        bundle: `.ekb` file or bundle folder; on a host a run folder, too.
        device_id: Name of this board; None for its host name.
        state_dir: Where records, samples and the outbox lie; None for systemd's, else the user's.
        camera: The camera.
        model: How the model runs.
        loop: How fast, and from single frames to answers.
        web: The live page; None for none.
        mqtt: The broker; None for none.
        drift: When what the camera sees no longer looks like what the model was made for; None not to watch.
        samples: Pictures kept for a human to label; None for none.
        record: What is written down, for `edgekit report --device`; None for nothing.
        update: Where `edgekit agent update` looks for new releases; None for nowhere.
    """

    bundle: str = ""
    device_id: str | None = None
    state_dir: str | None = None
    camera: CameraSection = CameraSection()
    model: ModelSettings = ModelSettings()
    loop: LoopSettings = LoopSettings()
    web: WebConfig | None = WebConfig()
    mqtt: MqttConfig | None = None
    drift: DriftConfig | None = DriftConfig()
    samples: SampleConfig | None = SampleConfig()
    record: RecorderConfig | None = RecorderConfig()
    update: UpdateSection | None = None

    @property
    def device_name(self) -> str:
        """Name of this board: as told, or its host name with what topics and labels may not hold replaced."""
        return self.device_id or _UNFIT_FOR_NAME.sub("-", socket.gethostname())[:64] or "edgekit"


def load_config(path: Path) -> AgentConfig:
    """Read an agent's TOML file.

    Raises:
        UsageError: Missing, no TOML, an unknown key, or a value of the wrong type; says where in the file.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=AgentConfig)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", hint="docs/agent.md lists the keys") from error


def find_state_dir(asked: str | None, environment: Mapping[str, str] | None = None) -> Path:
    """The folder that outlives the process: what was asked for, systemd's StateDirectory, or the user's.

    A folder that cannot be written is no reason to stop (a read-only root is common on boards): then it is one in
    memory, or under the temporary files, which does not outlive a restart of the board.

    Args:
        asked: From the configuration; this one is used or refused, never replaced.
        environment: None for the process's own.

    Raises:
        UsageError: The folder that was asked for cannot be written.
    """
    given = os.environ if environment is None else environment
    if asked:
        folder = Path(asked).expanduser()
        if not _is_writable(folder):
            raise UsageError(f"state folder {folder} cannot be written", hint="name another one, or leave it out")
        return folder
    home = given.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    candidates = [given.get("STATE_DIRECTORY", "").split(":")[0], f"{home}/edgekit", given.get("RUNTIME_DIRECTORY", "")]
    candidates += ["/dev/shm/edgekit", f"{tempfile.gettempdir()}/edgekit"]  # noqa: S108 - a last resort, owner only
    for candidate in filter(None, candidates):
        if _is_writable(Path(candidate)):
            return Path(candidate)
    raise UsageError(f"no folder can be written: tried {', '.join(filter(None, candidates))}", hint="give --state DIR")


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # os.access is not enough: root may write everywhere but on a file system that is mounted read-only or full
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"edgekit")
    except OSError:
        return False
    return folder.stat().st_uid == os.geteuid()
