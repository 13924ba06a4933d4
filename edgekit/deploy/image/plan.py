"""What is to be done to an image, as data: decided in `planning`, shown by `--dry-run`, done in `applying`."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import msgspec

from edgekit.bundle.manifest import Manifest
from edgekit.deploy.image.partitions import CardLayout


class GrowRoot(msgspec.Struct, frozen=True, kw_only=True, tag="grow_root"):
    """Make the root partition larger, and the image with it.

    Args:
        size_bytes: Of the partition afterwards.
        why: With numbers.
    """

    size_bytes: int
    why: str


class MakeFolder(msgspec.Struct, frozen=True, kw_only=True, tag="make_folder"):
    """A folder of root's.

    Args:
        path: In the image.
        mode: Permission bits.
        is_new: It is not there yet; False: only its mode is set.
    """

    path: str
    mode: int
    is_new: bool = True


class WriteFile(msgspec.Struct, frozen=True, kw_only=True, tag="write_file"):
    """A file of root's.

    Args:
        path: In the image.
        mode: Permission bits.
        content: Of it.
        is_secret: Nothing about the content is shown, not even its hash.
        replaces: A file is there, which goes.
    """

    path: str
    mode: int
    content: bytes
    is_secret: bool = False
    replaces: bool = False

    def __repr__(self) -> str:
        """Path and size alone."""
        return f"WriteFile({self.path!r}, {len(self.content)} bytes)"


class MakeLink(msgspec.Struct, frozen=True, kw_only=True, tag="make_link"):
    """A symbolic link.

    Args:
        path: In the image.
        target: Where it leads.
        replaces: A link is there, which goes.
    """

    path: str
    target: str
    replaces: bool = False


class SetCommandLine(msgspec.Struct, frozen=True, kw_only=True, tag="set_command_line"):
    """The kernel's command line on the boot partition.

    Args:
        text: All of it.
        added: Words that were not there.
    """

    text: str
    added: tuple[str, ...]


Step: TypeAlias = GrowRoot | MakeFolder | WriteFile | MakeLink | SetCommandLine


class ImagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that is to be done to an image.

    Args:
        layout: Of the image as it is.
        system: What is in it.
        boards: That it will work on, by id.
        manifest: Of the bundle.
        digest: Of the bundle.
        runtime: That the environment gets, as pip wants it.
        requirements: All that it gets beside edgekit, as pip wants them.
        date_unix_s: Of everything that is made.
        steps: In order.
        needed_bytes: Of the root file system, for the steps.
        free_bytes: In it, before.
        notes: What the user should know.
    """

    layout: CardLayout
    system: str
    boards: tuple[str, ...]
    manifest: Manifest
    digest: str
    runtime: str
    requirements: tuple[str, ...]
    date_unix_s: int
    steps: tuple[Step, ...]
    needed_bytes: int
    free_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def has_secrets(self) -> bool:
        """Whether the image will hold what only its owner should read."""
        return any(isinstance(step, WriteFile) and step.is_secret for step in self.steps)


class ShownStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step as it may be shown: no secret is in it.

    Args:
        kind: "write_file", ...
        path: In the image.
        mode: In octal digits.
        size_bytes: Of a file, or of the partition.
        sha256: Of a file that is no secret.
        detail: Target of a link, words, reasons.
    """

    kind: str
    path: str
    mode: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    detail: str | None = None


def show_step(step: Step) -> ShownStep:
    """A step as it may be shown."""
    if isinstance(step, GrowRoot):
        return ShownStep(kind="grow_root", path="partition 2", size_bytes=step.size_bytes, detail=step.why)
    if isinstance(step, MakeFolder):
        return ShownStep(kind="make_folder", path=step.path, mode=f"{step.mode:04o}")
    if isinstance(step, MakeLink):
        return ShownStep(kind="make_link", path=step.path, detail=step.target)
    if isinstance(step, SetCommandLine):
        return ShownStep(kind="set_command_line", path="cmdline.txt", detail=" ".join(step.added) or "as it is")
    return ShownStep(
        kind="write_file",
        path=step.path,
        mode=f"{step.mode:04o}",
        size_bytes=len(step.content),
        sha256=None if step.is_secret else hashlib.sha256(step.content).hexdigest(),
        detail="secret" if step.is_secret else None,
    )


def step_line(step: Step) -> str:
    """A step in one line, for people.

    >>> step_line(MakeLink(path="/a", target="b"))
    'link    /a -> b'
    """
    shown = show_step(step)
    if isinstance(step, GrowRoot):
        return f"grow    the root partition to {step.size_bytes:,} bytes: {step.why}"
    if isinstance(step, MakeFolder):
        return f"folder  {step.path} ({shown.mode})"
    if isinstance(step, MakeLink):
        return f"link    {step.path} -> {step.target}"
    if isinstance(step, SetCommandLine):
        return f"boot    cmdline.txt: {shown.detail}"
    secret = ", secret" if step.is_secret else ""
    return f"file    {step.path} ({shown.mode}, {len(step.content):,} bytes{secret})"
