"""Installer and agent find each other, and an old note fools nobody."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.agent.install import serving
from edgekit.agent.install.serving import ServingPost, find_agent, hand_over, install_dir, released_path


@pytest.fixture
def post(state: Path) -> Iterator[ServingPost]:
    opened = ServingPost(state)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def on_hangup() -> Iterator[Callable[[Callable[[], None]], None]]:
    before = signal.getsignal(signal.SIGHUP)

    def set_to(act: Callable[[], None]) -> None:
        signal.signal(signal.SIGHUP, lambda *_: act())

    yield set_to
    signal.signal(signal.SIGHUP, before)


def test_agent_is_found_while_it_lives(state: Path, post: ServingPost) -> None:
    post.took("aa")
    note = find_agent(state)
    assert note is not None
    assert (note.pid, note.digest, note.num_loads) == (os.getpid(), "aa", 1)
    post.close()
    assert find_agent(state) is None


def test_note_of_an_agent_that_was_killed_counts_for_nothing(state: Path) -> None:
    (state / "agent.lock").touch()
    (state / "agent.json").write_text('{"pid": 1, "digest": "aa"}')
    assert find_agent(state) is None


def test_second_agent_in_the_same_folder_does_not_speak_for_the_first(state: Path, post: ServingPost) -> None:
    post.took("aa")
    second = ServingPost(state)
    second.open()
    second.took("bb")
    second.close()
    note = find_agent(state)
    assert note is not None
    assert note.digest == "aa"


def test_hand_over_waits_until_the_agent_has_it(
    state: Path, post: ServingPost, on_hangup: Callable[[Callable[[], None]], None]
) -> None:
    post.took("aa")
    on_hangup(lambda: post.took("bb"))
    assert hand_over(state)("bb") == ""
    assert hand_over(state)("bb") == ""  # it has it already


def test_hand_over_tells_why_the_agent_refuses(
    state: Path, post: ServingPost, on_hangup: Callable[[Callable[[], None]], None]
) -> None:
    post.took("aa")
    on_hangup(lambda: post.refused("bb", "golden picture 2"))
    assert hand_over(state)("bb") == "golden picture 2"


def test_hand_over_sees_an_agent_that_dies_of_it(
    state: Path, post: ServingPost, on_hangup: Callable[[Callable[[], None]], None]
) -> None:
    post.took("aa")
    on_hangup(post.close)
    assert hand_over(state)("bb") == "the agent ended while it loaded the release"


def test_hand_over_gives_up_on_an_agent_that_does_nothing(
    state: Path, post: ServingPost, on_hangup: Callable[[Callable[[], None]], None]
) -> None:
    post.took("aa")
    on_hangup(lambda: None)
    assert hand_over(state, 0.2)("bb") == "it did not take it within 0.2 s"


def test_hand_over_lets_an_agent_load_its_first_release_before_it_is_told(
    state: Path, post: ServingPost, on_hangup: Callable[[Callable[[], None]], None]
) -> None:
    told: list[str] = []

    def take() -> None:
        told.append("bb")
        post.took("bb")

    on_hangup(take)
    starting = threading.Timer(0.3, lambda: post.took("aa"))
    starting.start()
    assert hand_over(state)("bb") == ""
    starting.join()
    assert told == ["bb"]


def test_hand_over_tells_an_agent_again_that_did_not_listen(
    state: Path, post: ServingPost, on_hangup: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_TELL_AGAIN_S", 0.2)
    post.took("aa")
    told: list[int] = []

    def take_the_second() -> None:
        told.append(1)
        if len(told) == 2:
            post.took("bb")

    on_hangup(take_the_second)
    assert hand_over(state)("bb") == ""
    assert len(told) == 2


def test_hand_over_without_an_agent_is_done_at_once(state: Path) -> None:
    assert hand_over(state)("bb") == ""


def test_current_is_followed_once(state: Path) -> None:
    (state / "releases" / "aa").mkdir(parents=True)
    (state / "current").symlink_to("releases/aa")
    assert install_dir(state / "current") == state
    assert released_path(state / "current") == state / "releases" / "aa"
    assert released_path(state / "other.ekb") == state / "other.ekb"
    assert install_dir(state / "other.ekb") is None
