"""A release on probation: it has passed its trial and serves; now an agent has to live with it for a while.

A life begins when an agent starts, or when the one that serves takes the release, and ends in good order when it is
told to end. A start that finds the life before it unfinished, in the same boot of the board, has found a death. A board
that lost power says nothing about the model. All of it is data, and pure functions over it; the record keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.errors import EdgekitError

ProbationState: TypeAlias = Literal["resting", "living", "proven"]
"""`resting`: no agent lives with it. `proven` is the end: nothing of a probation is remembered after it."""

LifeEvent: TypeAlias = Literal["start", "take", "die", "reboot", "end", "prove"]

LIVES: Mapping[tuple[ProbationState, LifeEvent], ProbationState] = MappingProxyType(
    {
        ("resting", "start"): "living",
        ("resting", "take"): "living",  # the agent that serves has changed over to it
        ("living", "take"): "living",
        ("living", "die"): "living",  # found by the next start, which is a life again; counted
        ("living", "reboot"): "living",  # found by the next start, after a power cut; not counted
        ("living", "end"): "resting",
        ("living", "prove"): "proven",
    }
)

MAX_DEATHS = 3
"""Of agents, with the same release, before it has proved itself: then the one before it serves again."""

PROBATION_S = 3600.0
"""A life of this length proves a release."""

_BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


class Probation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a release has come.

    Args:
        digest: Which.
        name: Of what is released.
        release: Its counter.
        state: Whether an agent lives with it.
        boot: Of the board, in which that life began; "" for none, or where it cannot be told.
        num_deaths: Lives that did not end in good order.
    """

    digest: str
    name: str
    release: int
    state: ProbationState = "resting"
    boot: str = ""
    num_deaths: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to remember."""
        return self.state == "proven"

    @property
    def is_lost(self) -> bool:
        """Whether it has brought agents down too often."""
        return self.num_deaths >= MAX_DEATHS


def advance_life(probation: Probation, event: LifeEvent, boot: str = "") -> Probation:
    """A probation after an event.

    Args:
        probation: As it is before.
        event: What happens.
        boot: Of the board now, for events that begin a life.

    Raises:
        EdgekitError: The event does not belong to its state: a defect.

    >>> advance_life(Probation(digest="ab", name="pets", release=7, state="living"), "die").num_deaths
    1
    """
    state = LIVES.get((probation.state, event))
    if state is None:
        raise EdgekitError(f"a release that is {probation.state} takes no {event!r}", hint="this is a defect")
    return msgspec.structs.replace(
        probation,
        state=state,
        boot=boot if state == "living" else "",
        num_deaths=probation.num_deaths + (event == "die"),
    )


def start_event(probation: Probation, boot: str) -> LifeEvent:
    """What the start of an agent says about the life before it.

    Args:
        probation: As it is before.
        boot: Of the board now; "" where it cannot be told: then nothing is held against the release.
    """
    if probation.state == "resting":
        return "start"
    return "die" if boot and boot == probation.boot else "reboot"


def read_boot_id(path: Path = _BOOT_ID_PATH) -> str:
    """What tells this boot of the board from others; "" where it cannot be told."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
