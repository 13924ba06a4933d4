"""Files onto a board: beside, checked, renamed; what an interrupted connection left there is not sent again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgekit.core.errors import BoardError
from edgekit.core.progress import Progress
from edgekit.deploy.ssh.shell import BoardShell

_CHUNK_BYTES = 1 << 20

# Size and hash of what is there of a file: of the whole one, else of its part.
_THERE = """
for file in "$1" "$1.part"; do
    [ -f "$file" ] || continue
    printf '%s %s %s\\n' "${file#"$1"}=" "$(wc -c <"$file")" "$(sha256sum <"$file" | cut -d' ' -f1)"
    exit
done
exit 0
"""
_PUBLISH = 'mv -f "$1.part" "$1" && sync "$(dirname "$1")" 2>/dev/null || [ -f "$1" ]'


class ToSend(msgspec.Struct, frozen=True, kw_only=True):
    """A file for a board.

    Args:
        path: On this machine.
        name: There, in the folder of what is sent.
        size_bytes: Its size.
        sha256: Of its content, lower-case hex.
        label: For the progress bar.
    """

    path: Path
    name: str
    size_bytes: int
    sha256: str
    label: str


async def send_file(shell: BoardShell, file: ToSend, progress: Progress) -> int:
    """Send a file, or what is missing of it.

    Args:
        shell: The board.
        file: Which.
        progress: Told in KiB.

    Returns:
        Bytes that were sent.

    Raises:
        BoardError: The disk there is full, the connection broke (what is there stays, and is not sent again), or the
            file was damaged on its way.
    """
    target = f"{shell.layout.cache}/{file.name}"
    offset = await _find_offset(shell, file, target)
    if offset is None:
        return 0
    progress.begin(file.label, -(-file.size_bytes // 1024))
    progress.advance(offset // 1024, "resumed" if offset else "")
    try:
        await shell.session.send(file.path, f"{target}.part", offset, _in_kib(progress, offset))
    except BoardError as error:
        raise await _explained(shell, file, error) from error
    finally:
        progress.end()
    ran = await shell.session.run(("sh", "-c", _THERE, "there", target))
    if ran.out.split()[1:] != [str(file.size_bytes), file.sha256]:
        await shell.session.run(("rm", "-f", f"{target}.part"))
        raise BoardError(f"{shell.where}: {file.name} arrived damaged", hint="the same command again sends it anew")
    ran = await shell.session.run(("sh", "-c", _PUBLISH, "publish", target))
    if ran.code != 0:
        raise BoardError(f"{shell.where}: cannot rename {target}.part: {ran.complaint}")
    return file.size_bytes - offset


async def _find_offset(shell: BoardShell, file: ToSend, target: str) -> int | None:
    """Where to go on; None when everything is there. A part that is not the file's beginning is removed."""
    ran = await shell.session.run(("sh", "-c", _THERE, "there", target))
    words = ran.out.split()
    if len(words) != 3 or not words[1].isdecimal():
        return 0
    size, is_whole = int(words[1]), words[0] == "="
    if size <= file.size_bytes and hash_beginning(file.path, size) == words[2]:
        if is_whole and size == file.size_bytes:
            return None
        if not is_whole:
            return size
    await shell.session.run(("rm", "-f", target, f"{target}.part"))
    return 0


def hash_beginning(path: Path, size_bytes: int) -> str:
    """SHA-256 of a file's first bytes, lower-case hex."""
    digest, left = hashlib.sha256(), size_bytes
    with path.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(_CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _in_kib(progress: Progress, offset: int) -> Callable[[int], None]:
    """Tell bytes as whole KiB, without losing the halves."""
    sent = offset

    def advance(num_bytes: int) -> None:
        nonlocal sent
        before, sent = sent, sent + num_bytes
        progress.advance(sent // 1024 - before // 1024)

    return advance


async def _explained(shell: BoardShell, file: ToSend, error: BoardError) -> BoardError:
    """SFTP says no more than "failure" of a full disk; the board knows more, as long as it answers."""
    try:
        ran = await shell.session.run(("df", "-Pk", shell.layout.cache), timeout_s=10.0)
    except BoardError:
        return error
    words = ran.out.splitlines()[-1].split() if ran.out.strip() else []
    free_kib = int(words[3]) if len(words) > 3 and words[3].isdecimal() else None
    if free_kib is None or free_kib * 1024 >= min(file.size_bytes, 1 << 20):
        return error
    return BoardError(
        f"{shell.where}: the disk is full: {free_kib:,} KiB free in {shell.layout.cache}, {file.name} has "
        f"{file.size_bytes:,} bytes",
        hint="make room there; the same command again goes on where it was",
    )
