"""`edgekit agent install`, `rollback`, `releases`, `recover`, as a person and as a program see them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from command_line import assert_fails, edgekit, start_process
from edgekit.agent.config import AgentConfig
from edgekit.agent.install.living import Life
from edgekit.agent.install.overview import read_overview
from edgekit.agent.install.serving import find_agent
from edgekit.bundle.reading import open_bundle
from edgekit.cli.agent_running import load
from edgekit.core.errors import EdgekitError
from edgekit.deploy.deltas import make_delta
from install_bundles import rewrite_bundle, write_tiny_bundle

QUICK = ("--no-camera", "--soak", "0")
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return write_tiny_bundle(folder, 1), write_tiny_bundle(folder, 2)


def test_bundle_is_installed_listed_and_taken_back(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    digests = [open_bundle(path).digest for path in bundles]
    first = edgekit("agent", "install", bundles[0], "--state", state, *QUICK, "--json")
    assert first.code == 0, first.err
    assert (first.document["result"], first.document["serving"]) == ("committed", digests[0])
    assert {one["rule"]: one["outcome"] for one in first.document["findings"]}["frames"] == "waived"

    second = edgekit("agent", "install", bundles[1], "--state", state, *QUICK)
    assert second.code == 0
    assert f"tiny release 2 ({digests[1][:12]}) serves" in second.out
    assert "ok  golden: " in second.out
    again = edgekit("agent", "install", bundles[1], "--state", state, *QUICK)
    assert (again.code, "serves already" in again.out) == (0, True)

    listed = edgekit("agent", "releases", "--state", state)
    assert "current   tiny        2" in listed.out
    document = edgekit("agent", "releases", "--state", state, "--json").document
    assert [one["digest"] for one in document["releases"]] == [digests[1], digests[0]]

    back = edgekit("agent", "rollback", "--state", state, "--reason", "bees are called ants")
    assert (back.code, f"{digests[0][:12]} serves" in back.out) == (0, True)
    listed = edgekit("agent", "releases", "--state", state)
    assert f"quarantine: tiny release 2 ({digests[1][:12]}): bees are called ants" in listed.out
    refused = edgekit("agent", "install", bundles[1], "--state", state, *QUICK)
    assert_fails(refused, 1, "in quarantine: bees are called ants", "--again")
    assert_fails(edgekit("agent", "rollback", "--state", state), 2, "no previous release")
    assert "nothing to do" in edgekit("agent", "recover", "--state", state).out
    assert edgekit("agent", "recover", "--state", state, "--json").document["result"] == "unchanged"


def test_model_that_fails_ends_with_1_and_says_why(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    costly = rewrite_bundle(
        bundles[1],
        tmp_path / "costly.ekb",
        lambda manifest: msgspec.structs.replace(
            manifest, budgets=msgspec.structs.replace(manifest.budgets, rss_mib=1.0)
        ),
    )
    outcome = edgekit("agent", "install", costly, "--state", tmp_path / "state", *QUICK)
    assert outcome.code == 1
    assert "FAILED  rss: peak " in outcome.out
    assert "may not serve: rss: peak" in outcome.out
    assert "nothing serves on" in outcome.out


def test_bundle_for_other_boards_is_tried_when_that_is_wanted(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    foreign = rewrite_bundle(
        bundles[0],
        tmp_path / "foreign.ekb",
        lambda manifest: msgspec.structs.replace(
            manifest, compatible=msgspec.structs.replace(manifest.compatible, boards=("raspberry_pi_4b",))
        ),
    )
    words = ("agent", "install", foreign, "--state", tmp_path / "state", *QUICK)
    assert_fails(edgekit(*words), 2, "it is for raspberry_pi_4b")
    assert edgekit(*words, "--any-board").code == 0


def test_model_without_live_frames_is_not_blamed(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    camera = ("--camera", f"image_folder:{tmp_path / 'missing'}")
    outcome = edgekit("agent", "install", bundles[0], "--state", state, "--soak", "0", *camera)
    assert outcome.code == 2
    outcome = edgekit("agent", "install", bundles[0], "--state", state, "--soak", "0", "--camera", "synthetic:")
    assert outcome.code == 0, outcome
    assert "10 of 10 live frames answered" in outcome.out


def test_delta_is_installed_over_the_release_it_is_for(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    newer = rewrite_bundle(
        bundles[0], tmp_path / "newer.ekb", lambda manifest: msgspec.structs.replace(manifest, release=3)
    )
    report = make_delta(bundles[0], newer, tmp_path / "x.ekd")
    assert report.path is not None
    assert_fails(edgekit("agent", "install", report.path, "--state", state, *QUICK), 2, "no release is installed")
    assert edgekit("agent", "install", bundles[0], "--state", state, *QUICK).code == 0
    outcome = edgekit("agent", "install", report.path, "--state", state, *QUICK, "--json")
    assert outcome.document["serving"] == open_bundle(newer).digest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.ekb", *QUICK), "no bundle at none.ekb"),
        (("none.ekd", *QUICK), "no release is installed"),
        (("x.ekb", "--no-camera", "--camera", "0"), "exclude one another"),
        (("x.ekb", "--no-camera", "--snapshot", "http://x/y"), "exclude one another"),
        (("x.ekb", "--config", "none.toml"), "cannot read none.toml"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    assert_fails(edgekit("agent", "install", *arguments, "--state", tmp_path / "state"), 2, words)


def test_releases_of_an_empty_folder_are_none(tmp_path: Path) -> None:
    assert "0 releases in" in edgekit("agent", "releases", "--state", tmp_path).out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_install_leaves_the_old_release_and_blames_nobody(
    bundles: tuple[Path, Path], tmp_path: Path, number: signal.Signals
) -> None:
    state = tmp_path / "state"
    assert edgekit("agent", "install", bundles[0], "--state", state, *QUICK).code == 0
    process = start_process(
        "agent", "install", bundles[1], "--state", state, "--no-camera", "--soak", "600", stdout=subprocess.PIPE
    )
    try:
        until_s = time.monotonic() + DEADLINE_S
        while read_overview(state).job.state != "trial":
            assert time.monotonic() < until_s
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    overview = read_overview(state)
    assert (overview.job.state, overview.quarantine, len(overview.releases)) == ("idle", (), 1)
    assert (state / "current").readlink().name == open_bundle(bundles[0]).digest
    assert not (state / "trial").exists()


@pytest.fixture
def running_agent(bundles: tuple[Path, Path], tmp_path: Path) -> Iterator[Path]:
    """The state folder of an agent that serves release 1, in a process of its own."""
    state = tmp_path / "state"
    assert edgekit("agent", "install", bundles[0], "--state", state, *QUICK).code == 0
    serve = ("--bundle", state / "current", "--camera", "synthetic:", "--http", "off", "--state", state)
    with start_process("agent", "run", *serve, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: (note := find_agent(state)) is not None and note.digest is not None, process)
            yield state
        finally:
            process.terminate()
            process.communicate(timeout=DEADLINE_S)


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until_s
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def test_running_agent_takes_over_and_goes_back(running_agent: Path, bundles: tuple[Path, Path]) -> None:
    digests = [open_bundle(path).digest for path in bundles]
    before = find_agent(running_agent)
    assert before is not None
    assert before.digest == digests[0]

    assert edgekit("agent", "install", bundles[1], "--state", running_agent, *QUICK).code == 0
    after = find_agent(running_agent)
    assert after is not None
    assert (after.pid, after.digest) == (before.pid, digests[1])

    assert edgekit("agent", "rollback", "--state", running_agent).code == 0
    back = find_agent(running_agent)
    assert back is not None
    assert (back.pid, back.digest) == (before.pid, digests[0])


def test_agent_settles_an_interrupted_installation_before_it_serves(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    for path in bundles:
        assert edgekit("agent", "install", path, "--state", state, *QUICK).code == 0
    (state / "current" / "model.ekz").write_bytes(b"rot")
    serve = ("--bundle", state / "current", "--camera", "synthetic:", "--http", "off", "--frames", "1")
    outcome = edgekit("agent", "run", *serve, "--state", state)
    assert outcome.code == 0, outcome.err
    assert (state / "current").readlink().name == open_bundle(bundles[0]).digest
    assert find_agent(state) is None


def test_release_that_brings_agents_down_goes_back_by_itself(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    for path in bundles:
        assert edgekit("agent", "install", path, "--state", state, *QUICK).code == 0
    old, new = (open_bundle(path).digest for path in bundles)
    serve = ("--bundle", state / "current", "--camera", "synthetic:", "--http", "off", "--state", state)
    endings = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL)  # who is told to end has not died

    served: list[str | None] = []
    for number in (*endings, signal.SIGTERM):
        with start_process("agent", "run", *serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(lambda: (note := find_agent(state)) is not None and note.digest is not None, process)
                note = find_agent(state)
            finally:
                process.send_signal(number)
                process.communicate(timeout=DEADLINE_S)
        served.append(None if note is None else note.digest)

    assert served == [new] * len(endings) + [old]
    (kept_out,) = read_overview(state).quarantine
    assert (kept_out.digest, kept_out.reason[:24]) == (new, "the agent died 3 times w")


def test_release_that_serves_already_is_not_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "releases" / "aa").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/aa")
    life = Life(tmp_path)
    life.begin()
    life.took("aa")
    asked = AgentConfig(bundle=str(tmp_path / "current"))
    try:
        assert load(asked, tmp_path, lambda: None, life) is None
        (tmp_path / "releases" / "bb").mkdir()
        (tmp_path / "current").unlink()
        (tmp_path / "current").symlink_to("releases/bb")
        with pytest.raises(EdgekitError):  # there is nothing in it: it was looked at
            load(asked, tmp_path, lambda: None, life)
    finally:
        life.end(in_good_order=True)
