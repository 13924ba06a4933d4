"""Which of the signed bundles is the one for this board: pure rules over the signed list and what was seen before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from edgekit.agent.update.config import UpdateConfig
from edgekit.agent.update.outcome import update_error
from edgekit.bundle.release import TargetName, parse_target_path, read_note
from edgekit.core.errors import IntegrityError


class SignedTarget(Protocol):
    """What the signed list says of a target; `tuf.api.metadata.TargetFile` is one."""

    @property
    def length(self) -> int:
        """Bytes."""
        ...

    @property
    def hashes(self) -> dict[str, str]:
        """By algorithm."""
        ...

    @property
    def custom(self) -> Any:  # noqa: ANN401 - any JSON
        """The note, if there is one."""
        ...


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that this board may download.

    Args:
        path: Of the target.
        channel: Which stream of releases.
        board: The board that it is for.
        name: Of what is released.
        release: Its number.
        digest: SHA-256 of its manifest.
        sha256: Of the `.ekb` file.
        size_bytes: Of the `.ekb` file.
        url: Where it lies.
    """

    path: str
    channel: str
    board: str
    name: str
    release: int
    digest: str
    sha256: str
    size_bytes: int
    url: str

    @property
    def file_name(self) -> str:
        """Of the downloaded file."""
        return TargetName(channel=self.channel, board=self.board, name=self.name, release=self.release).file_name


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A release that this board had before: installed, or downloaded.

    Args:
        name: Of what was released.
        release: Its number.
        digest: SHA-256 of its manifest.
    """

    name: str
    release: int
    digest: str


def newest_offer(targets: Mapping[str, SignedTarget], config: UpdateConfig) -> Offer | None:
    """The highest release for a board and channel; None when there is none.

    Args:
        targets: The signed list.
        config: Board, channel, name, and the largest file. `url` of the result is left empty.

    Raises:
        UpdateError: "bad_target_name", "malformed", "too_big", or "ambiguous" when nobody said which of several names.
    """
    prefix = f"{config.channel}/{config.board}/"
    offers = [_offer(path, target) for path, target in targets.items() if path.startswith(prefix)]
    names = sorted({offer.name for offer in offers})
    if config.name is None and len(names) > 1:
        message = f"there are {', '.join(names)[:300]} for this board, and only one can be followed"
        raise update_error("ambiguous", message, hint="say which in the update configuration: name")
    wanted = [offer for offer in offers if config.name in (None, offer.name)]
    newest = max(wanted, key=lambda offer: offer.release, default=None)
    if newest is not None and newest.size_bytes > config.max_bundle_bytes:
        message = f"{newest.path} has {newest.size_bytes:,} bytes, at most {config.max_bundle_bytes:,} are downloaded"
        raise update_error("too_big", message)
    return newest


def is_newer(offer: Offer, seen: Seen | None) -> bool:
    """Whether an offer is something else than what the board had, and a step forward.

    Args:
        offer: The newest.
        seen: What the board had of the same name; of another name it is not compared.

    Raises:
        UpdateError: "lower_release", or "same_release_other_content".
    """
    if seen is None or seen.name != offer.name:
        return True
    if offer.release < seen.release:
        message = f"{offer.name} release {offer.release} is the newest there, this board had {seen.release}"
        raise update_error("lower_release", message, hint="publish it again under a higher number")
    if offer.release > seen.release:
        return True
    if offer.digest != seen.digest:
        message = f"{offer.name} release {offer.release} has manifest {offer.digest[:16]}, it had {seen.digest[:16]}"
        raise update_error("same_release_other_content", message, hint="publish it again under a higher number")
    return False


def _offer(path: str, target: SignedTarget) -> Offer:
    try:
        parts = parse_target_path(path)
    except IntegrityError as error:
        raise update_error("bad_target_name", error.message) from error
    try:
        note = read_note(target.custom, parts)
    except IntegrityError as error:
        raise update_error("malformed", error.message) from error
    sha256 = target.hashes.get("sha256", "")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise update_error("malformed", f"{path} has no SHA-256")
    return Offer(
        path=path,
        channel=parts.channel,
        board=parts.board,
        name=parts.name,
        release=parts.release,
        digest=note.digest,
        sha256=sha256,
        size_bytes=target.length,
        url="",
    )
