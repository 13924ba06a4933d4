"""The states of an installation, and what leads from one to the next: data, and pure functions over it.

`committed` and `rolled_back` are decisions, written down before anything is done about them. What follows a decision
(links, leftovers) can be derived from the job alone and done again at any time; so a board that lost power anywhere
finds in its record what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.errors import EdgekitError

State: TypeAlias = Literal["idle", "staged", "trial", "committed", "rolled_back", "failed"]
"""`failed`: it could not be tried, which says nothing about the model. `rolled_back`: it was, and may not serve."""

Event: TypeAlias = Literal["stage", "try", "pass", "refuse", "abandon", "interrupt", "revert", "finish"]

TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        ("idle", "stage"): "staged",  # its files are all there, under its digest
        ("staged", "try"): "trial",  # counted before it begins
        ("staged", "abandon"): "failed",  # no memory, a full disk, a power cut
        ("trial", "pass"): "committed",
        ("trial", "refuse"): "rolled_back",  # the gate says no
        ("trial", "abandon"): "failed",  # Ctrl-C, no camera: not the model's fault
        ("trial", "interrupt"): "rolled_back",  # found after a start: the trial may be what brought the board down
        ("committed", "refuse"): "rolled_back",  # the agent that serves would not take it
        ("idle", "revert"): "rolled_back",  # somebody wants the previous one back, or the current one is damaged
        ("committed", "finish"): "idle",
        ("rolled_back", "finish"): "idle",
        ("failed", "finish"): "idle",
    }
)

RESUMING: Mapping[State, Event] = MappingProxyType(
    {
        "staged": "abandon",
        "trial": "interrupt",
        "committed": "finish",
        "rolled_back": "finish",
        "failed": "finish",
    }
)
"""What a start does about a job that it finds. Links are set and leftovers removed before `finish`."""

QUARANTINING: frozenset[Event] = frozenset(("refuse", "interrupt", "revert"))
"""After these the digest is not taken again unless somebody says so."""

MAX_ATTEMPTS = 1
"""Trials of one digest. A second one would only begin after the first brought the installer or the board down."""


class InstallStateError(EdgekitError):
    """An event that does not belong to the state: a defect, or two installers without a lock."""


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is being installed, and how far it is.

    Args:
        state: Where it is.
        event: What led there; None at the very beginning.
        digest: Of the release that it is about; None at the very beginning.
        name: Of what is released.
        release: Its counter.
        base: Digest that served when it began; None when nothing did.
        base_previous: Digest that was kept as the previous one then.
        num_attempts: Trials of this digest that began, this one included.
        detail: Why, for people.
    """

    state: State = "idle"
    event: Event | None = None
    digest: str | None = None
    name: str = ""
    release: int = 0
    base: str | None = None
    base_previous: str | None = None
    num_attempts: int = 0
    detail: str = ""


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Digests that the two links name; None for no link.

    Args:
        current: What serves.
        previous: What served before it.
    """

    current: str | None
    previous: str | None


def advance(job: Job, event: Event, detail: str = "") -> Job:
    """The job after an event.

    Raises:
        InstallStateError: The event does not belong to its state.

    >>> advance(Job(state="trial", digest="ab"), "pass").state
    'committed'
    """
    state = TRANSITIONS.get((job.state, event))
    if state is None:
        raise InstallStateError(f"an installation in state {job.state} takes no {event!r}", hint="this is a defect")
    return msgspec.structs.replace(job, state=state, event=event, detail=detail)


def wanted_links(job: Job) -> Links | None:
    """Where the links have to point; None when there is no job that says so, and they stay as they are.

    >>> wanted_links(Job(state="committed", digest="new", base="old", base_previous="older"))
    Links(current='new', previous='old')
    >>> wanted_links(Job(state="rolled_back", digest="new", base="old", base_previous="older"))
    Links(current='old', previous='older')
    """
    if job.state == "idle":
        return None
    if job.state == "committed":
        return Links(current=job.digest, previous=job.base)
    return Links(current=job.base, previous=job.base_previous)
