"""Carry out a plan on a copy of an image, and check afterwards that the copy is what the plan says."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

from edgekit.core.errors import DataError, IntegrityError
from edgekit.core.progress import Progress
from edgekit.deploy.image.boot_files import COMMAND_LINE, read_boot_file, write_boot_file
from edgekit.deploy.image.partitions import MBR_BYTES, CardLayout, with_root_size
from edgekit.deploy.image.plan import GrowRoot, ImagePlan, MakeFolder, MakeLink, SetCommandLine, WriteFile
from edgekit.deploy.image.programs import run_program
from edgekit.deploy.image.root_files import Entry, RootFiles, quoted

_COPY_BYTES = 4 << 20
_CLEAN_OR_FIXED = (0, 1)
"""Exit codes of e2fsck: nothing to do, or done."""


def apply_plan(plan: ImagePlan, image_path: Path, progress: Progress) -> None:
    """Change an image as planned, in place; what fails leaves it unusable, so it has to be a copy.

    Args:
        plan: Made for this very image.
        image_path: Of the copy.
        progress: Shows the steps.

    Raises:
        DataError: A program did not do what it was asked.
        IntegrityError: The result is not what was planned, or a file system in it is damaged.
    """
    progress.begin("customise image", len(plan.steps))
    for step in plan.steps:
        if isinstance(step, GrowRoot):
            grow_root(image_path, plan.layout, step.size_bytes, plan.date_unix_s)
            progress.advance()
    _write_root(plan, image_path, progress)
    for step in plan.steps:
        if isinstance(step, SetCommandLine):
            content = f"{step.text}\n".encode()
            write_boot_file(image_path, plan.layout.boot.start, COMMAND_LINE, content, plan.date_unix_s)
            progress.advance()
    progress.end()
    check_result(plan, image_path, progress)


def grow_root(image_path: Path, layout: CardLayout, size_bytes: int, date_unix_s: int) -> None:
    """Make the root partition and its file system larger.

    resize2fs takes a file system at an offset, but then cuts the file off as if it began at 0. So the file system is
    taken out, grown, and put back.

    Args:
        image_path: Plain image, changed in place.
        layout: Of it, before.
        size_bytes: Of the partition afterwards.
        date_unix_s: That the file system shall bear.

    Raises:
        DataError: resize2fs did not do it.
    """
    with tempfile.TemporaryDirectory(dir=image_path.parent, prefix=".edgekit-") as name:
        folder = Path(name)
        part_path = folder / "root"
        with image_path.open("rb") as image, part_path.open("wb") as part:
            _copy_range(image, part, layout.root.start, 0, layout.root.size_bytes)
            part.truncate(size_bytes)
        for program, arguments, allowed in (
            ("e2fsck", ["-f", "-p", "root"], _CLEAN_OR_FIXED),
            ("resize2fs", ["root"], (0,)),
        ):
            ran = run_program(program, arguments, folder, date_unix_s)
            if ran.returncode not in allowed:
                said = (ran.stderr + ran.stdout).decode(errors="replace").strip().replace("\n", " / ")
                raise DataError(f"{program} on the root file system: {said}", hint="take the image as it was released")
        with image_path.open("r+b") as image, part_path.open("rb") as part:
            table = image.read(MBR_BYTES)
            # The old one becomes a hole first: what the grown one has no data for must read as zeros.
            image.truncate(layout.root.start)
            image.truncate(layout.root.start + size_bytes)
            _copy_range(part, image, 0, layout.root.start, size_bytes)
            image.seek(0)
            image.write(with_root_size(table, layout, size_bytes))


def check_result(plan: ImagePlan, image_path: Path, progress: Progress) -> None:
    """Read back all that was planned, and have the root file system checked.

    Raises:
        IntegrityError: Names what is not as planned.
    """
    progress.begin("check image", 3)
    files = RootFiles(image_path, plan.layout.root.start)
    steps = [step for step in plan.steps if isinstance(step, (MakeFolder, WriteFile, MakeLink))]
    found = files.look([step.path for step in steps])
    progress.advance()
    contents = files.read([step.path for step in steps if isinstance(step, WriteFile)])
    wrong = [step.path for step in steps if not _is_done(step, found.get(step.path), contents)]
    wrong += [
        COMMAND_LINE
        for step in plan.steps
        if isinstance(step, SetCommandLine)
        and read_boot_file(image_path, plan.layout.boot.start, COMMAND_LINE) != f"{step.text}\n".encode()
    ]
    if wrong:
        raise IntegrityError(f"in the finished image {', '.join(wrong[:3])} is not what was written", hint="try again")
    progress.advance()
    complaint = files.check()
    if complaint:
        raise IntegrityError(f"e2fsck on the finished image: {complaint[0]}", hint="was the image whole to begin with?")
    progress.end()


def _write_root(plan: ImagePlan, image_path: Path, progress: Progress) -> None:
    steps = [step for step in plan.steps if isinstance(step, (MakeFolder, WriteFile, MakeLink))]
    with tempfile.TemporaryDirectory(dir=image_path.parent, prefix=".edgekit-") as name:
        folder = Path(name)
        commands: list[str] = []
        for index, step in enumerate(steps):
            if isinstance(step, WriteFile):
                source = folder / f"in{index}"
                # Holds passwords now and then; the folder is its owner's alone, and so is the file.
                source.touch(mode=0o600)
                source.write_bytes(step.content)
                os.utime(source, (plan.date_unix_s, plan.date_unix_s))
            commands += _commands(step, f"in{index}")
            progress.advance()
        RootFiles(image_path, plan.layout.root.start).change(commands, folder, plan.date_unix_s)


def _commands(step: MakeFolder | WriteFile | MakeLink, source: str) -> list[str]:
    """What debugfs has to be told for a step; the content lies in the file `source`."""
    path = quoted(step.path)
    if isinstance(step, MakeFolder):
        make = [f"mkdir {path}"] if step.is_new else []
        return [*make, f"sif {path} mode 0{0o40000 | step.mode:o}"]
    remove = [f"rm {path}"] if step.replaces else []
    if isinstance(step, MakeLink):
        return [*remove, f"symlink {path} {quoted_target(step.target)}"]
    return [*remove, f"write {source} {path}", f"sif {path} mode 0{0o100000 | step.mode:o}"]


def quoted_target(target: str) -> str:
    """The target of a link as debugfs takes it: as a path, which may begin anywhere."""
    return quoted(target) if target.startswith("/") else f'"{quoted(f"/{target}")[2:-1]}"'


def _is_done(step: MakeFolder | WriteFile | MakeLink, found: Entry | None, contents: dict[str, bytes]) -> bool:
    if found is None:
        return False
    if isinstance(step, MakeLink):
        return found.kind == "symlink" and found.target == step.target
    is_roots = not isinstance(step, WriteFile) or found.owner == (0, 0)
    has_content = not isinstance(step, WriteFile) or contents.get(step.path) == step.content
    return found.mode == step.mode and has_content and is_roots


def _copy_range(source: IO[bytes], target: IO[bytes], start: int, at: int, size_bytes: int) -> None:
    """Copy bytes from one place to another; zeros are left out, so `target` must not have anything there."""
    source.seek(start)
    done = 0
    while done < size_bytes:
        part = source.read(min(_COPY_BYTES, size_bytes - done))
        if not part:
            break
        if any(part):
            target.seek(at + done)
            target.write(part)
        done += len(part)
