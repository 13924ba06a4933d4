"""A release that passed its trial and then brings agents down goes back by itself; whoever is unplugged does not."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.agent.install.installer import RECORD, Installer
from edgekit.agent.install.living import Life
from edgekit.agent.install.machine import Job
from edgekit.agent.install.overview import read_overview
from edgekit.agent.install.probation import (
    LIVES,
    MAX_DEATHS,
    LifeEvent,
    Probation,
    ProbationState,
    advance_life,
    read_boot_id,
    start_event,
)
from edgekit.agent.install.record import Record
from edgekit.agent.install.serving import ServingPost
from edgekit.core.errors import BarNotMetError, EdgekitError
from installs import FACTS, REQUEST, Releases, Trial, installer

NEW = Probation(digest="new", name="tiny", release=2)


class Board:
    """A board on which agents live and die; releases 1 and 2 are installed, one after the other."""

    def __init__(self, state: Path, releases: Releases) -> None:
        self.state = state
        self.boot = "boot 0"
        self.installer = Installer(state, try_out=Trial(), facts=FACTS, boot=lambda: self.boot)
        for path in releases.paths[:2]:
            assert self.installer.install(path, REQUEST).result == "committed"

    def reboot(self) -> None:
        self.boot = f"boot {int(self.boot.split()[1]) + 1}"

    def serving(self) -> str:
        return (self.state / "current").readlink().name


@pytest.fixture
def board(state: Path, releases: Releases) -> Board:
    return Board(state, releases)


# ---------------------------------------------------------------------------------------------------------------- rules
@pytest.mark.parametrize("state", get_args(ProbationState))
@pytest.mark.parametrize("event", get_args(LifeEvent))
def test_event_of_a_life_is_refused_where_it_does_not_belong(state: ProbationState, event: LifeEvent) -> None:
    before = Probation(digest="new", name="tiny", release=2, state=state)
    if (state, event) in LIVES:
        assert advance_life(before, event).state == LIVES[state, event]
    else:
        with pytest.raises(EdgekitError, match=f"{state} takes no '{event}'"):
            advance_life(before, event)


@given(st.lists(st.sampled_from(("crash", "stop", "unplug", "take")), max_size=40))
def test_only_deaths_within_one_boot_are_counted(course: list[str]) -> None:
    boot, known, num_deaths = 0, NEW, 0
    for what in course:
        known = advance_life(known, start_event(known, str(boot)), str(boot))
        assert known.num_deaths == num_deaths
        if what == "stop":
            known = advance_life(known, "end")
        elif what == "take":
            known = advance_life(known, "take", str(boot))
            num_deaths += 1  # nobody has ended that life, either
        elif what == "unplug":
            boot += 1
        else:
            num_deaths += 1
    assert known.is_lost == (known.num_deaths >= MAX_DEATHS)


def test_nothing_is_counted_where_boots_cannot_be_told() -> None:
    living = advance_life(NEW, "start", "")

    assert start_event(living, "") == "reboot"
    assert read_boot_id(Path("/nowhere")) == ""
    assert read_boot_id() == read_boot_id() != ""


# ---------------------------------------------------------------------------------------------------------------- board
def test_release_that_kills_agents_goes_back_and_into_quarantine(board: Board, releases: Releases) -> None:
    for _ in range(MAX_DEATHS):
        assert board.installer.begin_life().result == "unchanged"
        assert board.serving() == releases.digests[1]

    report = board.installer.begin_life()

    assert (report.result, report.digest, report.serving) == ("rolled_back", releases.digests[1], releases.digests[0])
    assert "the agent died 3 times with it before it had served for 3600 s" in report.detail
    assert board.serving() == releases.digests[0]
    overview = read_overview(board.state)
    assert [one.digest for one in overview.quarantine] == [releases.digests[1]]
    assert overview.quarantine[0].reason == report.detail
    assert (overview.job.state, overview.probation, len(overview.releases)) == ("idle", None, 1)
    assert [one.event for one in overview.events].count("die") == MAX_DEATHS
    assert board.installer.begin_life().result == "unchanged"
    with pytest.raises(BarNotMetError, match="the agent died 3 times"):
        board.installer.install(releases.paths[1], REQUEST)


def test_death_of_the_agent_that_took_the_release_is_counted(state: Path, releases: Releases) -> None:
    post = ServingPost(state)
    post.open()
    try:
        board = Board(state, releases)
    finally:
        post.close()
    for _ in range(MAX_DEATHS - 1):
        assert board.installer.begin_life().result == "unchanged"

    assert board.installer.begin_life().result == "rolled_back"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(("crash", "stop", "unplug", "recover")), max_size=12), st.booleans())
def test_board_serves_the_old_or_the_new_release_whatever_happens_to_agents(
    tmp_path_factory: pytest.TempPathFactory, releases: Releases, course: list[str], proves: bool
) -> None:
    board = Board(tmp_path_factory.mktemp("course") / "state", releases)
    old, new = releases.digests[:2]
    num_deaths = 0
    for number, what in enumerate(course):
        report = board.installer.begin_life()
        if num_deaths < MAX_DEATHS:
            assert board.serving() == new
        else:
            assert board.serving() == old
            assert {one.digest for one in read_overview(board.state).quarantine} == {new}
            assert board.installer.begin_life().result == "unchanged"
            assert report.result in ("rolled_back", "unchanged")
            return
        if proves and number == 2:
            board.installer.prove(new)
            num_deaths = -len(course)  # from now on nothing is held against it
        if what == "crash":
            num_deaths += 1
        elif what == "stop":
            board.installer.end_life()
            board.installer.end_life()
        elif what == "unplug":
            board.reboot()
        else:
            assert board.installer.recover().result == "unchanged"
            num_deaths += 1


def test_proved_release_is_left_alone(board: Board, releases: Releases) -> None:
    board.installer.begin_life()
    board.installer.prove(releases.digests[0])  # not the one that serves
    assert read_overview(board.state).probation is not None
    board.installer.prove(releases.digests[1])
    assert read_overview(board.state).probation is None

    for _ in range(MAX_DEATHS + 2):
        assert board.installer.begin_life().result == "unchanged"


def test_first_release_stays_however_often_agents_die(state: Path, releases: Releases) -> None:
    first = Installer(state, try_out=Trial(), facts=FACTS, boot=lambda: "boot")
    assert first.install(releases.paths[0], REQUEST).result == "committed"

    for _ in range(MAX_DEATHS + 2):
        assert first.begin_life().result == "unchanged"

    known = read_overview(state).probation
    assert known is not None
    assert known.num_deaths == MAX_DEATHS + 1


def test_rollback_by_hand_ends_the_probation(board: Board) -> None:
    board.installer.begin_life()

    board.installer.rollback()

    assert read_overview(board.state).probation is None


def test_refusal_of_a_later_release_leaves_the_probation_as_it_was(board: Board, releases: Releases) -> None:
    board.installer.begin_life()
    board.installer.begin_life()
    before = read_overview(board.state).probation

    refusing = installer(board.state, Trial(lambda report: report.__class__(stage="loading", exit_code=-11)))
    assert refusing.install(releases.paths[2], REQUEST).result == "rolled_back"

    assert before is not None
    assert before.num_deaths == 1
    assert read_overview(board.state).probation == before


def test_record_of_before_there_were_probations_is_taken(board: Board, releases: Releases) -> None:
    record = Record(board.state / RECORD)
    record._connection.execute("DROP TABLE probation")
    record.close()

    assert read_overview(board.state).probation is None
    assert read_overview(board.state).detail == ""
    assert board.installer.begin_life().result == "unchanged"
    assert board.installer.install(releases.paths[2], REQUEST).result == "committed"
    assert read_overview(board.state).probation is not None


# ---------------------------------------------------------------------------------------------------------------- lives
def test_life_that_is_long_enough_proves_the_release(board: Board, releases: Releases) -> None:
    from ssh_board import wait_for

    life = Life(board.state, probation_s=0.05)
    life.begin()
    life.took(releases.digests[1])
    wait_for(lambda: read_overview(board.state).probation is None, "proof")
    life.end(in_good_order=True)
    life.end(in_good_order=True)


@pytest.mark.parametrize("in_good_order", [True, False])
def test_life_that_ends_in_good_order_is_no_death(board: Board, in_good_order: bool) -> None:
    for _ in range(2):
        life = Life(board.state)
        life.begin()
        life.end_quickly(in_good_order=in_good_order)

    known = read_overview(board.state).probation
    assert known is not None
    assert known.num_deaths == (0 if in_good_order else 1)


def test_second_agent_in_the_folder_says_nothing_about_the_first(board: Board, releases: Releases) -> None:
    first = Life(board.state)
    first.begin()
    first.took(releases.digests[1])
    for _ in range(MAX_DEATHS + 1):
        second = Life(board.state, probation_s=0)
        second.begin()
        second.took(releases.digests[1])
        second.end(in_good_order=True)

    known = read_overview(board.state).probation
    assert known is not None
    assert (known.state, known.num_deaths) == ("living", 0)
    assert board.serving() == releases.digests[1]
    first.end(in_good_order=True)


def test_life_goes_on_while_somebody_else_installs(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    from edgekit.agent.install.lock import install_lock

    with install_lock(board.state):
        life = Life(board.state)
        life.begin()
        life.end(in_good_order=True)

    assert caplog.text
    assert read_overview(board.state).probation == Probation(digest=board.serving(), name="tiny", release=2)


# ------------------------------------------------------------------------------------------------------------- adopting
def test_counter_begins_with_a_release_that_came_on_a_card(state: Path, releases: Releases) -> None:
    from edgekit.agent.install.disk import ReleaseStore
    from edgekit.agent.install.machine import Links
    from edgekit.bundle.reading import open_bundle
    from edgekit.core.errors import UsageError

    store = ReleaseStore(state)
    store.stage(open_bundle(releases.paths[1]))
    store.point(Links(current=releases.digests[1], previous=None))  # as an image has it: no record

    assert installer(state).begin_life().result == "unchanged"
    with pytest.raises(UsageError, match="is older than release 2"):
        installer(state).install(releases.paths[0], REQUEST)

    overview = read_overview(state)
    assert [(one.event, one.release) for one in overview.events] == [("adopt", 2)]
    assert overview.job == Job()
    assert installer(state).install(releases.paths[2], REQUEST).result == "committed"


def test_counter_begins_anew_with_what_serves_when_the_record_was_lost(board: Board, releases: Releases) -> None:
    from edgekit.core.errors import UsageError

    (board.state / RECORD).write_bytes(b"no record")

    with pytest.raises(UsageError, match="is older than release 2"):
        board.installer.install(releases.paths[0], REQUEST)
