"""What goes into an image, beside what lies there already: which steps are left, and what they take."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.deploy.image.contents import Item
from edgekit.deploy.image.facts import ImageFacts
from edgekit.deploy.image.plan import GrowRoot, MakeFolder, MakeLink, Step, WriteFile

MARGIN_BYTES = 8 << 20
"""Of the root file system that stay free: the first boot writes before it takes the rest of the card."""
ALIGN_BYTES = 4 << 20


def settle(items: Sequence[Item], facts: ImageFacts) -> list[Step]:
    """Steps for items: missing parents are made, files and links that are there are replaced.

    Raises:
        IntegrityError: Something else lies where a folder or a file has to go.
    """
    steps: list[Step] = []
    made: set[str] = set()
    for item in items:
        for folder in _missing_parents(item.path, facts, made):
            made.add(folder)
            steps.append(MakeFolder(path=folder, mode=0o755))
        there = facts.entries.get(item.path)
        if isinstance(item, MakeFolder):
            if there is not None and there.kind != "directory":
                raise IntegrityError(f"{item.path} in the image is a {there.kind} file, expected a folder")
            if item.path in made:
                steps = [one for one in steps if not (isinstance(one, MakeFolder) and one.path == item.path)]
            made.add(item.path)
            steps.append(msgspec.structs.replace(item, is_new=there is None))
            continue
        if there is not None and there.kind == "directory":
            raise IntegrityError(f"{item.path} in the image is a folder, expected none")
        steps.append(msgspec.structs.replace(item, replaces=there is not None))
    return steps


def _missing_parents(path: str, facts: ImageFacts, made: set[str]) -> list[str]:
    words = path.strip("/").split("/")
    parents = ["/" + "/".join(words[:count]) for count in range(1, len(words))]
    for parent in parents:
        there = facts.entries.get(parent)
        if there is not None and there.kind not in ("directory", "symlink"):
            raise IntegrityError(f"{parent} in the image is a {there.kind} file, expected a folder")
    return [parent for parent in parents if parent not in facts.entries and parent not in made]


def needed_bytes(steps: Sequence[Step], facts: ImageFacts) -> int:
    """Of the root file system: whole blocks for files, one for each folder, and one in 512 for what finds them."""
    block = facts.root.block_bytes
    num_blocks = sum(-(-len(step.content) // block) + 1 for step in steps if isinstance(step, WriteFile))
    num_blocks += sum(2 for step in steps if isinstance(step, (MakeFolder, MakeLink)))
    num_inodes = sum(isinstance(step, (WriteFile, MakeFolder, MakeLink)) for step in steps)
    if num_inodes > facts.root.num_free_inodes:
        raise UsageError(
            f"the root file system takes {facts.root.num_free_inodes:,} more files, needed are {num_inodes:,}",
            hint="take another image",
        )
    return (num_blocks + num_blocks // 512) * block


def growth(facts: ImageFacts, needed: int, *, may_grow: bool) -> tuple[GrowRoot, ...]:
    """The step that makes room, when there is too little.

    Raises:
        UsageError: It may not; says the numbers.
    """
    wanted = needed + MARGIN_BYTES
    lacking_bytes = wanted - facts.root.free_bytes
    if lacking_bytes <= 0:
        return ()
    numbers = f"{needed:,} bytes and {MARGIN_BYTES:,} to spare are needed, {facts.root.free_bytes:,} are free"
    if not may_grow:
        raise UsageError(f"no space in the root file system: {numbers}", hint="leave out --no-grow")
    # A twentieth more: a larger file system needs more tables, too.
    size = facts.layout.root.size_bytes + lacking_bytes + lacking_bytes // 20 + ALIGN_BYTES
    return (GrowRoot(size_bytes=-(-size // ALIGN_BYTES) * ALIGN_BYTES, why=numbers),)
