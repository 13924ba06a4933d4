"""Sample pictures on disk: a JPEG and a JSON line beside it each, in a folder that may be half written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.errors import DataError, OutputError
from edgekit.core.storage import write_bytes

SampleReason: TypeAlias = Literal["uncertain", "drifted"]

SAMPLES_DIR = "samples"
"""Where they are, within the agent's state folder."""
_JPEG_BEGIN = b"\xff\xd8"
_NAME = re.compile(r"(?:uncertain|drifted)-[0-9]+-[0-9a-f]+")
_UNFIT_FOR_FOLDER = re.compile(r"[^\w .+-]|^\.+")


class SampleNote(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a picture.

    Args:
        reason: Why it was kept.
        time_unix_s: Wall clock of the answer.
        label: What was answered.
        confidence: Of that answer.
        top: Best (label, probability) pairs of this picture.
        flags: What had drifted then.
        sequence: Of the frame.
        rank: Drawn when it was kept: when room is needed, the lowest go first.
    """

    reason: SampleReason
    time_unix_s: float
    label: str
    confidence: float
    top: tuple[tuple[str, float], ...]
    flags: tuple[str, ...]
    sequence: int
    rank: float


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One picture that was kept.

    Args:
        picture_path: The JPEG file.
        note: What was known of it.
        size_bytes: Of both files.
    """

    picture_path: Path
    note: SampleNote
    size_bytes: int

    @property
    def note_path(self) -> Path:
        """The JSON file beside the picture."""
        return self.picture_path.with_suffix(".json")


def list_samples(folder: Path) -> tuple[Sample, ...]:
    """All whole samples of a folder, oldest first; none where the folder is missing.

    A picture without a readable note, or a note without a picture, is passed over: the board lost its power there.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.glob("*.jpg") if _NAME.fullmatch(path.stem))
    except OSError as error:
        raise DataError(f"cannot read samples in {folder}: {error.strerror or error}") from error
    samples = [sample for path in paths if (sample := _read(path)) is not None]
    return tuple(sorted(samples, key=lambda sample: sample.note.time_unix_s))


def write_sample(folder: Path, name: str, jpeg: bytes, note: SampleNote) -> Sample:
    """Write a picture and its note. The picture comes last: where there is one, its note is whole.

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    line = msgspec.json.encode(note) + b"\n"
    sample = Sample(picture_path=folder / f"{name}.jpg", note=note, size_bytes=len(jpeg) + len(line))
    write_bytes(sample.note_path, line)
    try:
        write_bytes(sample.picture_path, jpeg)
    except OutputError:
        sample.note_path.unlink(missing_ok=True)
        raise
    return sample


def remove_sample(sample: Sample) -> None:
    """Delete a picture and its note; none of them need be there.

    Raises:
        OSError: It cannot be deleted.
    """
    sample.picture_path.unlink(missing_ok=True)
    sample.note_path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a power cut has left half: temporary files, notes without a picture, empty pictures.

    Files with other names are not ours and stay.

    Raises:
        OSError: The folder cannot be read or written.
    """
    whole = {path for sample in list_samples(folder) for path in (sample.picture_path, sample.note_path)}
    for path in folder.iterdir():
        name = path.name.lstrip(".").partition(".")[0]
        if path not in whole and _NAME.fullmatch(name) and path.is_file():
            path.unlink(missing_ok=True)


def export_samples(folder: Path, out_dir: Path) -> int:
    """Copy all samples into one folder per answer: move the wrong ones, and `edgekit data add` takes it for training.

    Args:
        folder: Where the agent keeps them.
        out_dir: Made if need be; `samples.jsonl` in it says what was known of each picture.

    Returns:
        How many were copied.

    Raises:
        DataError: The folder cannot be read.
        OutputError: `out_dir` cannot be written.
    """
    samples = list_samples(folder)
    lines: list[bytes] = []
    for sample in samples:
        target = out_dir / folder_name(sample.note.label) / sample.picture_path.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sample.picture_path, target)
        except OSError as error:
            raise OutputError(f"cannot copy {sample.picture_path} to {target}: {error.strerror or error}") from error
        entry = {"file": str(target.relative_to(out_dir)), **msgspec.to_builtins(sample.note)}
        lines.append(msgspec.json.encode(entry) + b"\n")
    write_bytes(out_dir / "samples.jsonl", b"".join(lines))
    return len(samples)


def folder_name(label: str) -> str:
    """A class name as the name of a folder.

    >>> folder_name("T-shirt/top"), folder_name("..")
    ('T-shirt_top', '_')
    """
    return _UNFIT_FOR_FOLDER.sub("_", label).strip()[:100] or "_"


def _read(path: Path) -> Sample | None:
    try:
        line = path.with_suffix(".json").read_bytes()
        note = msgspec.json.decode(line, type=SampleNote)
        with path.open("rb") as stream:
            is_jpeg = stream.read(2) == _JPEG_BEGIN
        size_bytes = path.stat().st_size + len(line)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Sample(picture_path=path, note=note, size_bytes=size_bytes) if is_jpeg else None
