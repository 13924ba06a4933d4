"""An image in, an image out: open, look, plan, copy, change, check, and only then the name that was asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from edgekit.bundle.archive import read_places
from edgekit.bundle.check import NAMES, check_content
from edgekit.bundle.manifest import MANIFEST
from edgekit.bundle.reading import Bundle, is_bundle, open_bundle
from edgekit.core.board import list_boards, load_board
from edgekit.core.errors import IntegrityError, OutputError, UsageError
from edgekit.core.progress import Progress
from edgekit.core.storage import atomic_writer
from edgekit.deploy.bundling import BundleRequest, make_bundle
from edgekit.deploy.image.applying import apply_plan
from edgekit.deploy.image.facts import read_facts, with_entries
from edgekit.deploy.image.first_boot import FirstBoot
from edgekit.deploy.image.plan import GrowRoot, ImagePlan
from edgekit.deploy.image.planning import Program, Wishes, choose, fitting_boards, make_plan
from edgekit.deploy.image.programs import find_programs
from edgekit.deploy.image.source import copy_sparse, opened_image
from edgekit.deploy.ssh.own_wheel import encode_wheel, read_own_wheel
from edgekit.deploy.wheelhouse import read_wheelhouse

_PROGRAMS = ("mcopy", "debugfs", "e2fsck", "resize2fs")


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to put into which image.

    Args:
        image_path: Raspberry Pi OS, plain or packed (.xz, .gz, .zip).
        model_path: Run folder, or bundle.
        out: The new image.
        boards: That a run's bundle is for; empty for all that the image is for.
        first_boot: Settings for the first boot.
        config: Text of agent.toml; None for one with the camera.
        camera: As after `--camera`; None for the boards' usual one.
        updates: Address of a published repository that the board looks into; None for none.
        root_json: Root of trust to pin; None for none.
        wheels_dir: Wheels to carry along; None: the board needs a network on its first boot.
        may_grow: Whether the root partition may become larger.
        date_unix_s: Of everything that is made; None for when the image was last written.
    """

    image_path: Path
    model_path: Path
    out: Path
    boards: tuple[str, ...] = ()
    first_boot: FirstBoot = FirstBoot()
    config: str | None = None
    camera: str | None = None
    updates: str | None = None
    root_json: str | None = None
    wheels_dir: Path | None = None
    may_grow: bool = True
    date_unix_s: int | None = None


def make_image(
    request: ImageRequest, progress: Progress, *, is_dry: bool = False, told: Callable[[ImagePlan], None] | None = None
) -> ImagePlan:
    """Make an image that classifies after its first boot; the same input makes the same bytes.

    Args:
        request: What, into which image.
        progress: Shows how far it is.
        is_dry: Only plan.
        told: Gets the plan before anything is done.

    Returns:
        What was done, or would be.

    Raises:
        UsageError: The parts do not fit each other; nothing was written.
        IntegrityError: The image is not one of Raspberry Pi OS, or damaged.
        MissingDependencyError: Programs are missing; names the Debian packages.
        OutputError: The image cannot be written. Nothing half-written is left behind.
    """
    find_programs(_PROGRAMS)
    out = request.out
    if out.exists() and request.image_path.exists() and out.samefile(request.image_path):
        raise UsageError(f"{out} is the image itself", hint="name another file with --out")
    wheels = None if request.wheels_dir is None else read_wheelhouse(request.wheels_dir)
    own = read_own_wheel()
    program = Program(
        name=own.name, content=encode_wheel(own), requires=(*own.requires, *own.agent_requires), wheels=wheels
    )
    with opened_image(request.image_path, out.parent, progress) as image_path:
        facts = read_facts(image_path)
        boards = fitting_boards(facts, tuple(map(load_board, list_boards())))
        names = tuple(board.name for board in boards)
        with _opened_bundle(request, names, progress) as (bundle, files):
            asked = tuple(board for board in boards if not request.boards or board.name in request.boards)
            wishes = Wishes(
                manifest=bundle.manifest,
                digest=bundle.digest,
                files=files,
                program=program,
                config=request.config,
                camera=request.camera,
                updates=request.updates,
                root_json=request.root_json,
                first_boot=request.first_boot,
                may_grow=request.may_grow,
                date_unix_s=request.date_unix_s,
            )
            choice = choose(facts, asked, wishes)
            facts = with_entries(facts, image_path, [item.path for item in choice.items])
            plan = make_plan(facts, choice, wishes)
        if told is not None:
            told(plan)
        if not is_dry:
            _write(image_path, plan, out, progress)
    return plan


def bundle_files(bundle: Bundle) -> tuple[tuple[str, bytes], ...]:
    """Every file of a bundle, compared with its manifest as it is read.

    Raises:
        IntegrityError: It has changed since it was opened.
    """
    contents: dict[str, bytes] = {}
    if bundle.path.is_dir():
        contents = {name: (bundle.path / name).read_bytes() for name in NAMES}
    else:
        with bundle.path.open("rb") as stream:
            for name, place in read_places(stream, bundle.path.stat().st_size).items():
                stream.seek(place.offset)
                contents[name] = stream.read(place.size_bytes)
    for name, content in contents.items():
        if name != MANIFEST:
            check_content(bundle.manifest, name, len(content), hashlib.sha256(content).hexdigest())
        elif hashlib.sha256(content).hexdigest() != bundle.digest:
            raise IntegrityError(f"{bundle.path}: {MANIFEST} changed while it was read", hint="try again")
    return tuple(sorted(contents.items()))


@contextlib.contextmanager
def _opened_bundle(
    request: ImageRequest, names: tuple[str, ...], progress: Progress
) -> Generator[tuple[Bundle, tuple[tuple[str, bytes], ...]], None, None]:
    """The bundle itself, or one that is made of a run for the boards that the image is for."""
    unknown = [board for board in request.boards if load_board(board).name not in names]
    if unknown:
        raise UsageError(f"the image is for {', '.join(names)}; not for {', '.join(unknown)}")
    if is_bundle(request.model_path):
        bundle = open_bundle(request.model_path)
        yield bundle, bundle_files(bundle)
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        made = BundleRequest(
            run_dir=request.model_path,
            boards=request.boards or names,
            release=0,
            created_unix_s=request.date_unix_s,
        )
        bundle = make_bundle(made, Path(folder) / "bundle.ekb", progress)
        yield bundle, bundle_files(bundle)


def _write(image_path: Path, plan: ImagePlan, out: Path, progress: Progress) -> None:
    """Copy, change, check; the name comes last. An image with a secret in it is its owner's alone."""
    grown = sum(step.size_bytes - plan.layout.root.size_bytes for step in plan.steps if isinstance(step, GrowRoot))
    with _owner_only(plan.has_secrets), atomic_writer(out) as target:
        with image_path.open("rb") as source:
            copy_sparse(source, target, progress, label="copy image")
        copy_path = Path(target.name)
        _check_space(copy_path.parent, plan, grown)
        apply_plan(plan, copy_path, progress)


@contextlib.contextmanager
def _owner_only(wanted: bool) -> Generator[None, None, None]:
    """While inside, new files get no mode bits for others."""
    before = os.umask(0o077) if wanted else None
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)


def _check_space(folder: Path, plan: ImagePlan, grown: int) -> None:
    """Refuse before the programs run into a full disk, and say numbers.

    Raises:
        OutputError: There is too little.
    """
    wanted = 2 * plan.needed_bytes + (plan.layout.root.size_bytes + grown if grown else 0)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise OutputError(f"{folder} has {free:,} bytes free, needed are {wanted:,}", hint="free some disk there")
