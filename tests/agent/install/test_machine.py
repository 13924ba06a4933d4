"""The states lead somewhere, and every one of them leads home."""

from __future__ import annotations

from typing import get_args

import pytest

from edgekit.agent.install.machine import (
    RESUMING,
    TRANSITIONS,
    Event,
    InstallStateError,
    Job,
    Links,
    State,
    advance,
    wanted_links,
)

STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)


@pytest.mark.parametrize("state", STATES)
def test_every_state_comes_home_when_it_is_found_after_a_start(state: State) -> None:
    job = Job(state=state, digest="new")
    for _ in range(3):
        if job.state == "idle":
            break
        job = advance(job, RESUMING[job.state])
    assert job.state == "idle"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_event_is_refused_where_it_does_not_belong(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert advance(Job(state=state), event).event == event
    else:
        with pytest.raises(InstallStateError, match=f"state {state} takes no '{event}'"):
            advance(Job(state=state), event)


def test_new_release_is_linked_only_after_the_decision() -> None:
    links = {state: wanted_links(Job(state=state, digest="new", base="old", base_previous="older")) for state in STATES}

    assert links.pop("idle") is None
    assert links.pop("committed") == Links(current="new", previous="old")
    assert set(links.values()) == {Links(current="old", previous="older")} or all(
        one == Links(current="old", previous="older") for one in links.values()
    )


def test_only_a_trial_that_passed_commits() -> None:
    assert [key for key, state in TRANSITIONS.items() if state == "committed"] == [("trial", "pass")]
