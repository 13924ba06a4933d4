"""One file over a bad network: what is there is not asked for again, and the whole costs a known number of bytes.

The unfinished file lies beside the finished one under the hash that it will have, so the next attempt, after a cut, a
restart or a power cut, goes on where the last one was. Whether it is right is decided by the signed hash, at its end.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

import msgspec

from edgekit.agent.update.answers import (
    content_length,
    content_range,
    is_web_page,
    portal_outcome,
    status_outcome,
)
from edgekit.agent.update.clock import Clock
from edgekit.agent.update.config import FetchLimits
from edgekit.agent.update.durable import make_folder, storage_error, sync_folder
from edgekit.agent.update.http import Answer, Http
from edgekit.agent.update.outcome import Outcome, UpdateError, update_error

_ALLOWANCE_BYTES = 64 * 1024
"""Beyond the share of the size: small files cost their headers, too."""

_SYNC_EVERY_BYTES = 4 * 1024 * 1024
_TEMPORARY = frozenset({"offline", "cut", "timed_out", "server_error", "bad_response"})
"""What another attempt, at once, may help against."""

_PROGRESS_BYTES = 4096
"""An attempt that brings less counts as one that brings nothing."""

_MARGIN_BYTES = 1024 * 1024


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the signed list describes it.

    Args:
        url: Where it lies.
        size_bytes: Its size.
        hashes: Of its content, by algorithm, lower-case hex; at least one.
    """

    url: str
    size_bytes: int
    hashes: dict[str, str]


class Download:
    """Downloads one file.

    Args:
        http: What asks.
        clock: For waits between attempts.
        limits: What it may cost.
        follow: Called with the number of bytes that are there.
    """

    def __init__(
        self, http: Http, clock: Clock, limits: FetchLimits, follow: Callable[[int], None] | None = None
    ) -> None:
        self._http = http
        self._clock = clock
        self._limits = limits
        self._follow = follow
        self.num_bytes = 0
        """Received over all attempts."""
        self._tag = ""

    def run(self, wanted: Wanted, path: Path) -> None:
        """Make `path` the wanted file, whole, synced, under its name; nothing is asked for if it is already.

        Raises:
            UpdateError: It could not be had; what came is kept for the next time, unless it is wrong.
        """
        try:
            if (
                path.is_file()
                and path.stat().st_size == wanted.size_bytes
                and hash_file(path, wanted.hashes) == wanted.hashes
            ):
                return
            make_folder(path.parent)
            self._run(wanted, path)
        except OSError as error:
            raise storage_error(path, error) from error

    def _run(self, wanted: Wanted, path: Path) -> None:
        part_path = path.with_name(f".{next(iter(wanted.hashes.values()))[:64]}.part")
        for other in path.parent.glob(".*.part"):
            if other != part_path:
                other.unlink(missing_ok=True)
        num_before = part_path.stat().st_size if part_path.exists() else 0
        if num_before > wanted.size_bytes:
            part_path.unlink()
            num_before = 0
        _check_space(path.parent, wanted.size_bytes - num_before)
        self._fill(wanted, part_path)
        if hash_file(part_path, wanted.hashes) != wanted.hashes:
            part_path.unlink()
            # what lay here from before may be to blame (a power cut leaves zeros in files): once more from the start
            if num_before:
                self._fill(wanted, part_path)
            if not num_before or hash_file(part_path, wanted.hashes) != wanted.hashes:
                part_path.unlink(missing_ok=True)
                raise update_error("wrong_hash", f"{wanted.url}: the file is not the signed one", url=wanted.url)
        part_path.replace(path)
        sync_folder(path.parent)

    def _fill(self, wanted: Wanted, part_path: Path) -> None:
        """Bring the unfinished file to its full length.

        It ends: attempts that bring nothing are counted, and all of them share one deadline.
        """
        slowest_s = self._limits.silence_s + wanted.size_bytes / self._limits.min_bytes_per_s
        until_s = self._clock.monotonic_s() + slowest_s
        num_stalls = 0
        with part_path.open("ab") as part:
            while (num_there := part.seek(0, os.SEEK_END)) < wanted.size_bytes:
                trouble = self._try_once(wanted, part, num_there, until_s)
                if trouble is None:
                    continue
                progress_bytes = part.seek(0, os.SEEK_END) - num_there
                num_stalls = 0 if progress_bytes >= _PROGRESS_BYTES else num_stalls + 1
                if num_stalls >= self._limits.num_stalls or trouble.outcome.retry_after_s is not None:
                    raise trouble
                if num_stalls:
                    self._clock.sleep(self._limits.first_wait_s * 2 ** (num_stalls - 1))

    def _try_once(self, wanted: Wanted, part: IO[bytes], num_there: int, until_s: float) -> UpdateError | None:
        """One attempt; gives what went wrong if another one may help."""
        try:
            self._attempt(wanted, part, num_there, until_s)
        except UpdateError as error:
            if error.outcome.name not in _TEMPORARY:
                raise
            return error
        finally:
            part.flush()
            os.fsync(part.fileno())
        return None

    def _attempt(self, wanted: Wanted, part: IO[bytes], num_there: int, until_s: float) -> None:
        headers = {"Range": f"bytes={num_there}-"} if num_there else {}
        if num_there and self._tag:
            headers["If-Range"] = self._tag
        with self._http.get(wanted.url, headers, until_s) as answer:
            trouble = judge(answer.status, answer.headers, wanted, num_there)
            if trouble is not None:
                raise UpdateError(trouble)
            if answer.status == 200 and num_there:
                part.truncate(0)  # no parts here, or another file now: from the beginning, as far as the budget goes
                num_there = part.seek(0)
            if self.num_bytes + wanted.size_bytes - num_there > _budget(wanted, self._limits):  # why pay for the rest
                raise _budget_error(answer.url, self.num_bytes, wanted)
            tag = answer.headers.get("etag", "")
            self._tag = tag if tag.startswith('"') else ""  # RFC 9110, 13.1.5: a weak one (W/) cannot be used
            self._copy(answer, wanted, part, num_there)

    def _copy(self, answer: Answer, wanted: Wanted, part: IO[bytes], num_there: int) -> None:
        budget = _budget(wanted, self._limits)
        num_unsynced = 0
        while content := answer.read():
            self.num_bytes += len(content)
            if num_there == 0 and is_web_page({}, content):
                raise UpdateError(portal_outcome(answer.url))
            num_there += len(content)
            if num_there > wanted.size_bytes:
                message = f"{answer.url}: goes on after the signed {wanted.size_bytes:,} bytes"
                raise update_error("too_large", message, url=answer.url)
            part.write(content)
            num_unsynced += len(content)
            if num_unsynced >= _SYNC_EVERY_BYTES:
                part.flush()
                os.fsync(part.fileno())
                num_unsynced = 0
            if self._follow is not None:
                self._follow(num_there)
            if self.num_bytes > budget:
                raise _budget_error(answer.url, self.num_bytes, wanted)
        if num_there < wanted.size_bytes:
            raise update_error("cut", f"{answer.url}: ends at byte {num_there:,}", url=answer.url)


def judge(status: int, headers: Mapping[str, str], wanted: Wanted, num_there: int) -> Outcome | None:
    """What is wrong with an answer, before its content is read; None when nothing is.

    Args:
        status: Of the answer.
        headers: By lower-case names.
        wanted: What was asked for.
        num_there: From which byte on; 0 for the whole.
    """
    url, size = wanted.url, wanted.size_bytes
    stated = content_length(headers)
    if status == 206 and num_there:
        came = content_range(headers)
        if came is not None and came.first == num_there and came.length not in (None, size):
            message = f"{url}: has {came.length:,} bytes now, signed are {size:,}"
            return Outcome(name="changed_length", message=message, url=url)
        if came is None or came.first != num_there or came.last >= size:
            said = headers.get("content-range", "none")[:80]
            message = f"{url}: asked for bytes {num_there}-{size - 1}, got {said!r}"
            return Outcome(name="wrong_range", message=message, url=url)
        return None
    if status == 206:
        return Outcome(name="wrong_range", message=f"{url}: a part came, the whole was asked for", url=url)
    if status == 416:
        message = f"{url}: has no byte {num_there:,} of the signed {size:,}"
        return Outcome(name="changed_length", message=message, url=url)
    if status != 200:
        return status_outcome(status, headers, url)
    if stated is not None and stated != size:
        if is_web_page(headers, b""):
            return portal_outcome(url)
        message = f"{url}: has {stated:,} bytes, signed are {size:,}"
        return Outcome(name="changed_length", message=message, url=url)
    return None


def hash_file(path: Path, algorithms: Iterable[str] = ("sha256",)) -> dict[str, str]:
    """Hashes of a file by algorithm, lower-case hex.

    Raises:
        ValueError: An algorithm that Python does not have.
        OSError: It cannot be read.
    """
    digests = {name: hashlib.new(name) for name in algorithms}
    with path.open("rb") as stream:
        while content := stream.read(1 << 20):
            for digest in digests.values():
                digest.update(content)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _budget(wanted: Wanted, limits: FetchLimits) -> int:
    return int(wanted.size_bytes * limits.overhead) + _ALLOWANCE_BYTES


def _budget_error(url: str, num_bytes: int, wanted: Wanted) -> UpdateError:
    message = f"{url}: {num_bytes:,} bytes came for a file of {wanted.size_bytes:,}, and it is not whole"
    return update_error("byte_budget", message, url=url)


def _check_space(folder: Path, num_bytes: int) -> None:
    place = os.statvfs(folder)
    if place.f_bavail * place.f_frsize < num_bytes + _MARGIN_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
