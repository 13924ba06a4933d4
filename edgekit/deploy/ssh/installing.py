"""The bundle onto the board, and what the board's own installer says of it."""

from __future__ import annotations

import msgspec

from edgekit.bundle.archive import EXTENSION
from edgekit.core.errors import BarNotMetError, BoardError, UsageError
from edgekit.core.progress import Progress
from edgekit.deploy.ssh.plan import Payload
from edgekit.deploy.ssh.sending import ToSend, send_file
from edgekit.deploy.ssh.shell import BoardShell

INSTALL_S = 900.0
"""For the trial: half a minute of soak, and an emulated or very small board's patience before it."""

# Out of the folder of whoever logs in, into the service's own; what flashes that lost power left in both goes.
# $1: there, $2: here, $3: user.
_TAKE = """
set -e
mkdir -p "$(dirname "$2")"
rm -f "$(dirname "$2")"/*.ekb "$(dirname "$1")"/*.ekb.part
mv -f "$1" "$2"
chown "$3:" "$(dirname "$2")" "$2"
"""


class InstallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """For the board's installer; the words of `edgekit agent install`.

    Args:
        camera: Where the trial gets its frames; None for the pictures of the agent that serves.
        no_camera: Try without live frames.
        soak_s: Seconds that the model has to live in its trial; None for the installer's own.
        again: Try what is in quarantine.
        downgrade: Take an older release.
    """

    camera: str | None = None
    no_camera: bool = False
    soak_s: float | None = None
    again: bool = False
    downgrade: bool = False


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of the gate: its name, how it went, and measured and allowed in words."""

    rule: str
    outcome: str
    detail: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What `edgekit agent install --json` told.

    Args:
        result: "committed", "unchanged", "rolled_back" or "failed".
        digest: Of the release that it was about.
        serving: Of what serves now.
        detail: Why, with numbers.
        findings: Every rule of the gate.
        seconds: That it took there.
        num_bytes: That were sent for it.
    """

    result: str
    digest: str | None = None
    serving: str | None = None
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    num_bytes: int = 0

    @property
    def is_good(self) -> bool:
        """Whether the bundle serves."""
        return self.result in ("committed", "unchanged")


async def install_bundle(payload: Payload, shell: BoardShell, options: InstallOptions, progress: Progress) -> Verdict:
    """Send a bundle and have it installed.

    Raises:
        BarNotMetError: The gate did not let it pass; with what it found, in numbers.
        BoardError: It could not be sent or tried.
    """
    name = f"{payload.digest}{EXTENSION}"
    file = ToSend(
        path=payload.path, name=name, size_bytes=payload.size_bytes, sha256=payload.sha256, label="send bundle"
    )
    num_bytes = await send_file(shell, file, progress)
    place = f"{shell.layout.state}/incoming/{name}"
    await shell.must("taking the bundle", _TAKE, f"{shell.layout.cache}/{name}", place, shell.layout.user)
    words = (shell.layout.edgekit, "agent", "install", place, *_options(shell, options))
    try:
        ran = await shell.service(*words, timeout_s=INSTALL_S)
    finally:
        await shell.root('rm -f "$1"', place)
    return msgspec.structs.replace(read_verdict(ran.out, ran.err, ran.code, shell.where), num_bytes=num_bytes)


def read_verdict(out: str, err: str, code: int, where: str) -> Verdict:
    """What the installer printed.

    Args:
        out: One JSON document, or nothing when it refused before a trial.
        err: Its lines for people.
        code: 0, 1 when the gate was not passed, other codes as every command's.
        where: The board, for messages.

    Raises:
        BarNotMetError: The gate says no, or it has said so before.
        UsageError: The bundle was refused before a trial: an older release, another board.
        BoardError: The installer failed.
    """
    lines = [line.removeprefix("error: ").strip() for line in err.splitlines() if line.startswith("error: ")]
    said = lines[-1] if lines else " / ".join(err.split("\n")[-3:]).strip()
    try:
        verdict = msgspec.json.decode(out, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if code == 1 and lines:
            raise BarNotMetError(f"{where} does not take it: {said}") from error
        if code == 2 and lines:
            raise UsageError(f"{where} does not take it: {said}") from error
        raise BoardError(f"{where}: the installer there ended with {code}: {said or ascii(out[-200:])}") from error
    if verdict.is_good:
        return verdict
    failed = [f"{one.rule}: {one.detail}" for one in verdict.findings if one.outcome not in ("passed", "waived")]
    why = "; ".join(failed) or verdict.detail or said
    serving = "nothing serves" if verdict.serving is None else f"{verdict.serving[:12]} serves on"
    raise BarNotMetError(f"{where}: the bundle did not pass the gate ({why}); {serving}")


def _options(shell: BoardShell, options: InstallOptions) -> tuple[str, ...]:
    """The words after the bundle."""
    words = ["--state", shell.layout.state, "--config", shell.layout.config, "--json"]
    if options.no_camera:
        words.append("--no-camera")
    elif options.camera is not None:
        words += ["--camera", options.camera]
    if options.soak_s is not None:
        words += ["--soak", f"{options.soak_s:g}"]
    return (*words, *(["--again"] if options.again else []), *(["--downgrade"] if options.downgrade else []))
