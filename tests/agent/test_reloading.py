"""Another model for an agent that serves: between two frames, the newest in the end, and never a worse one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent_lives import DEADLINE_S, Watching, config, named, running
from edgekit.agent.service import Agent, Loaded
from edgekit.core.errors import BarNotMetError


def test_reload_changes_the_model_between_two_frames_and_begins_its_latency_anew(tmp_path: Path) -> None:
    models = iter([named("old"), named("new")])
    watching = Watching()
    agent = Agent(config(tmp_path), lambda _: next(models), [watching])
    with running(agent):
        before = watching.wait(lambda status: status.num_answers > 50)
        agent.reload()
        after = watching.wait(lambda status: status.model is not None and status.model.name == "new")
        watching.wait(lambda status: status.num_answers > after.num_answers)
    assert before.model is not None
    assert before.model.name == "old"
    assert after.total[0].n < after.num_answers
    assert watching.statuses[-1].camera.num_lost == 0


@pytest.mark.parametrize("busy_with", ["first", "second"])
def test_reload_while_a_model_is_being_loaded_is_remembered_and_the_newest_serves(
    tmp_path: Path, busy_with: str
) -> None:
    loading, go_on = threading.Event(), threading.Event()
    configured, loads = ["first"], list[str]()

    def load(_: object) -> Loaded:
        name = configured[0]
        loads.append(name)
        if name == busy_with:
            loading.set()
            assert go_on.wait(DEADLINE_S)
        return named(name)

    watching = Watching()
    agent = Agent(config(tmp_path), load, [watching])
    with running(agent):
        if busy_with == "second":
            watching.wait(lambda status: status.num_answers > 0)
            configured[0] = "second"
            agent.reload()
        assert loading.wait(DEADLINE_S)
        configured[0] = "third"
        for _ in range(5):  # an installer may say it more than once
            agent.reload()
        go_on.set()
        watching.wait(lambda status: status.model is not None and status.model.name == "third")
    assert loads == ["first", *(["second"] if busy_with == "second" else []), "third"]


def test_reload_of_what_serves_already_changes_nothing(tmp_path: Path) -> None:
    models, asked = iter([named("only"), None]), threading.Event()

    def load(_: object) -> Loaded | None:
        model = next(models)
        if model is None:
            asked.set()
        return model

    watching = Watching()
    agent = Agent(config(tmp_path), load, [watching])
    with running(agent):
        watching.wait(lambda status: status.num_answers > 0)
        agent.reload()
        assert asked.wait(DEADLINE_S)
        seen = len(watching.statuses)
        watching.wait(lambda status: status.num_answers > 20)
    assert len(watching.statuses) > seen
    assert watching.statuses[-1].total[0].n == watching.statuses[-1].num_answers  # its latency was not begun anew


def test_reload_of_a_bundle_that_may_not_serve_keeps_the_old_model_and_says_why(tmp_path: Path) -> None:
    loads: list[int] = []

    def load(_: object) -> Loaded:
        loads.append(1)
        if len(loads) > 1:
            raise BarNotMetError("golden picture 3: expected Bag, got Coat")
        return named("old")

    watching = Watching()
    agent = Agent(config(tmp_path), load, [watching])
    with running(agent):
        watching.wait(lambda status: status.state == "serving")
        agent.reload()
        refused = watching.wait(lambda status: "golden picture 3" in status.detail)
        watching.wait(lambda status: status.num_answers > refused.num_answers)
    assert refused.model is not None
    assert refused.model.name == "old"
