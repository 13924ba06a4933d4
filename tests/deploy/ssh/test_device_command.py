"""`edgekit device` against a board behind a real SSH server."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Outcome, assert_fails, edgekit, start_process
from edgekit.bundle.reading import open_bundle
from ssh_board import SshBoard, free_port

Flash = Callable[..., Outcome]


def device(board: SshBoard, *words: str) -> Outcome:
    return edgekit("device", *words, "--identity", board.key)


def test_board_is_added_after_a_visit_and_its_key_pinned(board: SshBoard) -> None:
    assert_fails(device(board, "add", board.address, "--name", "desk"), 3, "was never seen before")

    done = device(board, "add", board.address, "--name", "desk", "--group", "lab", "--accept-new")

    assert done.out == f"desk: {board.address}, raspberry_pi_4b\n"
    listed = edgekit("device", "list").out
    for word in ("desk", board.address, "lab", "raspberry_pi_4b", "SHA256:"):
        assert word in listed


def test_board_is_not_added_twice(board: SshBoard) -> None:
    assert device(board, "add", board.address, "--name", "desk", "--offline").code == 0

    assert_fails(device(board, "add", board.address, "--name", "other", "--offline"), 2, "already, as desk")
    assert_fails(device(board, "add", "elsewhere", "--name", "desk", "--offline"), 2, "there is a board 'desk' already")


def test_show_tells_what_the_board_is(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0

    document = edgekit("device", "show", "127.0.0.1", "--identity", board.key, "--json").document

    assert document["found"]["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert document["found"]["config"] is None  # it may hold a token
    assert document["running"]["digest"] == open_bundle(bundle).digest
    assert "Python     3.11" in device(board, "show", "127.0.0.1").out


def test_status_asks_all_and_names_those_that_cannot_be_reached(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    nowhere = f"127.0.0.1:{free_port()}"
    assert edgekit("device", "add", nowhere, "--name", "attic", "--offline").code == 0

    done = device(board, "status")
    document = device(board, "status", "--json").document

    assert done.code == 1
    assert "serving" in done.out
    assert f"attic: {nowhere} cannot be reached" in done.out
    attic = next(one for one in document["boards"] if one["name"] == "attic")
    assert (attic["running"], "cannot be reached" in attic["error"]) == (None, True)
    here = next(one for one in document["boards"] if one["name"] != "attic")
    assert (here["running"]["state"], here["running"]["p90_ms"], here["error"]) == ("serving", 4.5, None)


def test_status_of_a_bare_board_says_so(board: SshBoard) -> None:
    assert device(board, "add", board.address, "--name", "desk", "--accept-new").code == 0

    (desk,) = device(board, "status", "--json").document["boards"]

    assert (desk["running"]["active"], desk["running"]["digest"]) == ("inactive", None)


def test_rollback_goes_back_to_the_release_before(
    board: SshBoard, flash: Flash, new_bundle: Callable[..., Path]
) -> None:
    assert flash(new_bundle(4), "--accept-new").code == 0
    assert flash(new_bundle(5)).code == 0

    done = device(board, "rollback", "127.0.0.1")

    before = open_bundle(new_bundle(4)).digest
    assert done.code == 0, done
    assert f"{before[:12]} serves again" in done.out
    (one,) = device(board, "status", "--json").document["boards"]
    assert one["running"]["digest"] == before
    calls = [json.loads(line) for line in (board.state / "calls.log").read_text("utf-8").splitlines()]
    assert calls[-1][0] == "rollback"
    assert "--reason" in calls[-1]


def test_rollback_fails_when_there_is_nothing_to_go_back_to(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0

    assert_fails(device(board, "rollback", "127.0.0.1"), 1, "there is no previous release to go back to")


def test_rollback_of_a_bare_board_says_that_it_has_no_edgekit(board: SshBoard) -> None:
    assert device(board, "add", board.address, "--name", "desk", "--accept-new").code == 0

    assert_fails(device(board, "rollback", "desk"), 3, "has no edgekit")


def test_rollback_of_nobody_in_particular_is_refused(board: SshBoard) -> None:
    assert_fails(device(board, "rollback"), 2, "which boards shall go back?")


def test_logs_are_the_last_lines(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    with (board.root / "run/agent.log").open("a", encoding="utf-8") as log:
        log.write("one\ntwo \x1b[31m\nthree\n")

    done = edgekit("device", "logs", "127.0.0.1", "-n", "2", "--identity", board.key)

    assert done.out == "two ?[31m\nthree\n"


def test_logs_are_followed_until_interrupted(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    process = start_process("device", "logs", "127.0.0.1", "--follow", "--identity", board.key, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline()
        with (board.root / "run/agent.log").open("a", encoding="utf-8") as log:
            log.write("something new\n")
        while (line := process.stdout.readline()) and line != b"something new\n":
            pass
        assert line
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_removed_board_is_a_stranger_again(board: SshBoard) -> None:
    assert device(board, "add", board.address, "--name", "desk", "--accept-new").code == 0

    assert edgekit("device", "remove", "desk").code == 0

    assert edgekit("device", "list").out == "no boards; edgekit device add [USER@]HOST\n"
    assert_fails(device(board, "show", board.address), 3, "was never seen before")
    assert_fails(edgekit("device", "remove", "desk"), 2, "no device 'desk'")


def test_empty_list_says_how_to_fill_it() -> None:
    assert_fails(edgekit("device", "status"), 2, "the list of boards is empty", "edgekit device add")


@pytest.mark.parametrize("words", [("status",), ("flash", "--group", "kitchen", "x")])
def test_damaged_list_is_named(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "config" / "edgekit"
    folder.mkdir(parents=True)
    (folder / "devices.toml").write_text("no toml [", encoding="utf-8")

    done = edgekit(*(words if words[0] == "flash" else ("device", *words)))

    assert_fails(done, 2, "devices.toml")
