"""How a bundle is named where many boards find it, and what the signed list says of it.

A published bundle is a target of a TUF repository: `<channel>/<board>/<name>-<release>.ekb`. Beside its length and its
hash, the signed entry holds a `ReleaseNote` under `NOTE_KEY`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edgekit.bundle.archive import EXTENSION
from edgekit.bundle.check import MAX_RELEASE
from edgekit.core.errors import IntegrityError, UsageError

NOTE_KEY = "edgekit"
"""Where a target's `custom` field holds the note."""

SIGNED_AT_KEY = "x-edgekit-signed-unix-s"
"""Field of signed metadata: when it was signed, seconds since 1970. A board's clock cannot be earlier than that."""

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_BOARD = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_FILE = re.compile(rf"(?P<name>{_NAME.pattern})-(?P<release>0|[1-9][0-9]{{0,15}}){re.escape(EXTENSION)}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ReleaseNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the signed list says of a bundle, besides its length and hash.

    Args:
        name: Of what is released.
        release: Rises with every release of that name.
        board: The board that it is for.
        digest: SHA-256 of the bundle's manifest, lower-case hex.
        version: Of this note.
    """

    name: str
    release: int
    board: str
    digest: str
    version: int = 1


class TargetName(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a target's path.

    Args:
        channel: Who gets it, e.g. "stable".
        board: Board id.
        name: Of what is released.
        release: Its number.
    """

    channel: str
    board: str
    name: str
    release: int

    @property
    def file_name(self) -> str:
        """Last part of the path."""
        return f"{self.name}-{self.release}{EXTENSION}"

    @property
    def path(self) -> str:
        """Of the target.

        >>> TargetName(channel="stable", board="raspberry_pi_4b", name="pets", release=4).path
        'stable/raspberry_pi_4b/pets-4.ekb'
        """
        return f"{self.channel}/{self.board}/{self.file_name}"


def parse_target_path(path: str) -> TargetName:
    """The parts of a target's path. Nothing in it can leave a folder: no part may begin with a dot.

    Raises:
        IntegrityError: It is none that `TargetName.path` makes.

    >>> parse_target_path("stable/raspberry_pi_4b/pets-v2-10.ekb").name
    'pets-v2'
    """
    channel, _, rest = path.partition("/")
    board, _, file_name = rest.partition("/")
    match = _FILE.fullmatch(file_name)
    if _CHANNEL.fullmatch(channel) is None or _BOARD.fullmatch(board) is None or match is None:
        raise IntegrityError(f"{path[:200]!a} is no name of a bundle, expected CHANNEL/BOARD/NAME-RELEASE{EXTENSION}")
    release = int(match["release"])
    if release > MAX_RELEASE:
        raise IntegrityError(f"{path[:200]!a} has release {release}, at most {MAX_RELEASE}")
    return TargetName(channel=channel, board=board, name=match["name"], release=release)


def check_channel(channel: str) -> None:
    """Check the name of a channel.

    Raises:
        UsageError: It cannot be a part of a path.
    """
    if _CHANNEL.fullmatch(channel) is None:
        raise UsageError(
            f"channel {channel[:80]!a} is no name", hint="use lower-case letters, digits, - and _, at most 32"
        )


def encode_note(note: ReleaseNote) -> dict[str, Any]:
    """The `custom` field of a target."""
    return {NOTE_KEY: msgspec.to_builtins(note)}


def read_note(custom: object, target: TargetName) -> ReleaseNote:
    """Read the note of a target and hold it against the target's name.

    Args:
        custom: The target's `custom` field; None when it has none.
        target: What its path says.

    Raises:
        IntegrityError: No note, one of another form, or one that contradicts the path.
    """
    try:
        note = msgspec.convert(custom, type=dict[str, ReleaseNote])[NOTE_KEY]
    except (msgspec.ValidationError, KeyError) as error:
        raise IntegrityError(f"{target.path} has no note that this version reads ({error})") from error
    if (note.name, note.release, note.board) != (target.name, target.release, target.board):
        said = f"{note.name} release {note.release} for {note.board}"
        raise IntegrityError(f"{target.path} is said to be {said[:200]!a}")
    if note.version != 1 or _DIGEST.fullmatch(note.digest) is None:
        raise IntegrityError(f"{target.path} has a note of version {note.version}, this version reads 1")
    return note
