"""A bare board to a serving one, over a real SSH server; what stands in for what, `ssh_board` says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec

from command_line import Outcome, edgekit
from edgekit.bundle.manifest import Manifest
from edgekit.bundle.reading import open_bundle
from ssh_board import SshBoard

Flash = Callable[..., Outcome]


def test_bare_board_serves_after_a_flash(board: SshBoard, flash: Flash, bundle: Path) -> None:
    done = flash(bundle, "--accept-new", "--json")

    assert done.code == 0, done
    digest = open_bundle(bundle).digest
    document = done.document
    kinds = ["make_folders", "make_environment", "write_file", "write_file", "install_bundle", "start_agent"]
    assert [step["kind"] for step in document["steps"]] == kinds
    assert document["board"] == "raspberry_pi_4b"
    assert document["runtime"] == "ai-edge-litert==2.3.0"
    assert document["running"]["digest"] == digest
    assert document["running"]["state"] == "serving"
    assert document["running"]["release"] == 4
    assert document["running"]["p90_ms"] == 4.5
    assert document["verdict"]["findings"][0]["detail"] == "p90 3.1 ms, allowed 40 ms"
    assert (board.state / "current").readlink() == Path("releases") / digest
    assert (board.root / "opt/edgekit/venv/bin/edgekit").is_file()
    assert "systemctl enable --quiet edgekit-agent.service" in board.calls


def test_nothing_of_what_was_sent_is_left_on_the_board(board: SshBoard, flash: Flash, bundle: Path) -> None:
    abandoned = (board.root / "var/cache/edgekit-flash/0.ekb.part", board.state / "incoming/0.ekb")
    for path in abandoned:  # of a flash that lost power, and was not repeated
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a bundle")
    assert flash(bundle, "--accept-new").code == 0

    assert list((board.root / "var/cache/edgekit-flash").iterdir()) == []
    assert list((board.state / "incoming").iterdir()) == []


def test_second_flash_sends_nothing_and_changes_nothing(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    before, agent = board.tree(), (board.root / "run/agent.pid").read_text("ascii")

    done = flash(bundle, "--json")

    assert done.code == 0, done
    assert done.document["steps"] == []
    assert done.document["num_bytes"] == 0
    assert done.document["running"]["digest"] == open_bundle(bundle).digest
    assert board.tree() == before
    assert (board.root / "run/agent.pid").read_text("ascii") == agent


def test_dry_run_prints_the_plan_and_changes_nothing(
    board: SshBoard, flash: Flash, bundle: Path, tmp_path: Path
) -> None:
    before = {**board.tree(), "calls.log": ""}

    done = flash(bundle, "--accept-new", "--dry-run")

    assert done.code == 0, done
    assert "5. send and install pets release 4" in done.out
    assert "no bundle is there" in done.out
    assert {**board.tree(), "calls.log": ""} == before
    assert not (tmp_path / "config").exists()


def test_dry_run_of_a_board_that_has_everything_has_nothing_to_do(flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0

    done = flash(bundle, "--dry-run")

    assert "nothing to do" in done.out


def test_new_release_is_installed_without_a_new_environment_or_start(
    board: SshBoard, flash: Flash, new_bundle: Callable[..., Path]
) -> None:
    assert flash(new_bundle(4), "--accept-new").code == 0
    agent = (board.root / "run/agent.pid").read_text("ascii")

    done = flash(new_bundle(5), "--json")

    assert done.code == 0, done
    assert [step["kind"] for step in done.document["steps"]] == ["make_folders", "install_bundle"]
    assert done.document["running"]["release"] == 5
    assert done.document["num_bytes"] == new_bundle(5).stat().st_size
    assert (board.root / "run/agent.pid").read_text("ascii") == agent


def test_trial_looks_at_the_camera_first_and_at_the_serving_agent_later(
    board: SshBoard, flash: Flash, new_bundle: Callable[..., Path]
) -> None:
    assert flash(new_bundle(4), "--accept-new", "--camera", "synthetic:7").code == 0
    assert flash(new_bundle(5), "--soak", "3").code == 0

    first, second = (json.loads(line) for line in (board.state / "calls.log").read_text("utf-8").splitlines())
    assert first[first.index("--camera") + 1] == "synthetic:7"
    assert "--camera" not in second
    assert second[second.index("--soak") + 1] == "3"


def test_bundle_that_fails_the_gate_ends_with_1_and_the_numbers(
    board: SshBoard, flash: Flash, new_bundle: Callable[..., Path]
) -> None:
    assert flash(new_bundle(4), "--accept-new").code == 0
    (board.state / "refuse").write_text("p90 95.0 ms, allowed 40 ms", encoding="utf-8")

    done = flash(new_bundle(5))

    assert done.code == 1
    assert "did not pass the gate (p90: p90 95.0 ms, allowed 40 ms)" in done.err
    assert f"{open_bundle(new_bundle(4)).digest[:12]} serves on" in done.err
    assert "release 4" in edgekit("flash", board.address, new_bundle(4), "--identity", board.key).out


def test_changed_environment_starts_the_agent_again(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    first = (board.root / "opt/edgekit/venv").readlink()
    board.install_python("3.13")  # for which the board file knows the same runtime

    done = flash(bundle, "--json")

    assert done.code == 0, done
    kinds = [step["kind"] for step in done.document["steps"]]
    assert kinds == ["make_folders", "make_environment", "start_agent"]
    assert "systemctl restart --no-block edgekit-agent.service" in board.calls
    assert not (board.root / "opt/edgekit" / first).exists()


def test_configuration_is_kept_when_nothing_is_said(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    config = board.root / "etc/edgekit/agent.toml"
    edited = config.read_text("utf-8") + "\n[loop]\nmax_fps = 5.0\n"
    config.write_text(edited, encoding="utf-8")

    assert flash(bundle, "--no-page").code == 0

    assert config.read_text("utf-8") == edited


def test_configuration_changes_when_options_are_given(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0

    done = flash(bundle, "--camera", "synthetic", "--mqtt", "broker.local", "--json")

    assert done.code == 0, done
    text = (board.root / "etc/edgekit/agent.toml").read_text("utf-8")
    assert 'source = "synthetic"' in text
    assert 'host = "broker.local"' in text
    assert [step["kind"] for step in done.document["steps"]] == ["make_folders", "write_file", "start_agent"]


def test_agent_starts_again_when_the_flash_that_changed_its_configuration_broke_off(
    board: SshBoard, flash: Flash, new_bundle: Callable[..., Path]
) -> None:
    assert flash(new_bundle(4), "--accept-new").code == 0
    refuse = board.state / "refuse"
    refuse.write_text("p90 95.0 ms, allowed 40 ms", encoding="utf-8")
    assert flash(new_bundle(5), "--camera", "synthetic").code == 1  # the camera is written, the agent has not seen it
    assert not [line for line in board.calls if line.startswith("systemctl restart")]

    refuse.unlink()
    done = flash(new_bundle(4), "--camera", "synthetic", "--json")

    assert done.code == 0, done
    assert [step["kind"] for step in done.document["steps"]] == ["make_folders", "start_agent"]
    assert "systemctl restart --no-block edgekit-agent.service" in board.calls
    assert flash(new_bundle(4), "--camera", "synthetic", "--json").document["steps"] == []


def test_updates_go_on_until_they_are_switched_off(board: SshBoard, flash: Flash, bundle: Path) -> None:
    config = board.root / "etc/edgekit/agent.toml"
    timer = board.root / "run/enabled-edgekit-update.timer"
    assert flash(bundle, "--accept-new", "--updates", "http://127.0.0.1:9/www").code == 0

    assert flash(bundle, "--camera", "synthetic").code == 0
    assert 'url = "http://127.0.0.1:9/www"' in config.read_text("utf-8")
    assert timer.exists()

    assert flash(bundle, "--updates", "off").code == 0
    assert "[update]" not in config.read_text("utf-8")
    assert 'source = "synthetic"' in config.read_text("utf-8")
    assert not timer.exists()
    assert flash(bundle, "--json").document["steps"] == []


def test_status_behind_a_token_is_read(board: SshBoard, flash: Flash, bundle: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abcdefghijklmnopqrstuvwxyz\n", encoding="utf-8")

    done = flash(bundle, "--accept-new", "--token-file", str(token), "--json")

    assert done.code == 0, done
    assert done.document["running"]["state"] == "serving"
    config = board.root / "etc/edgekit/agent.toml"
    assert 'token = "abcdefghijklmnopqrstuvwxyz"' in config.read_text("utf-8")
    assert config.stat().st_mode & 0o007 == 0
    assert "abcdefghijklmnopqrstuvwxyz" not in done.out + done.err


def test_root_of_trust_is_pinned_once(board: SshBoard, flash: Flash, bundle: Path, tmp_path: Path) -> None:
    trust = tmp_path / "site" / "metadata"
    trust.mkdir(parents=True)
    (trust / "9.root.json").write_text('{"version": 9}', encoding="utf-8")
    (trust / "10.root.json").write_text('{"version": 10}', encoding="utf-8")

    assert flash(bundle, "--accept-new", "--trust", str(tmp_path / "site")).code == 0

    pinned = board.state / "update/pinned-root.json"
    assert pinned.read_text("utf-8") == '{"version": 10}'
    (trust / "11.root.json").write_text('{"version": 11}', encoding="utf-8")
    assert flash(bundle, "--trust", str(tmp_path / "site")).code == 0
    assert pinned.read_text("utf-8") == '{"version": 10}'


def test_flashed_board_is_in_the_list_with_what_it_is(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0

    (listed,) = edgekit("device", "list", "--json").document["devices"]
    assert (listed["host"], listed["port"], listed["board"]) == ("127.0.0.1", board.port, "raspberry_pi_4b")
    assert len(listed["host_keys"]) == 1
    assert listed["host_keys"][0].startswith("SHA256:")


def test_group_is_flashed_at_once_and_says_which_board_failed(board: SshBoard, new_bundle: Callable[..., Path]) -> None:
    for name, address in (("a", board.address), ("c", "127.0.0.1:1")):
        added = edgekit("device", "add", address, "--name", name, "--group", "kitchen", "--offline")
        assert added.code == 0, added
    done = edgekit(
        "flash", "--group", "kitchen", new_bundle(), "--identity", board.key, "--accept-new", "--json",
        "--http", f"127.0.0.1:{board.page_port}",
    )  # fmt: skip

    assert done.code == 1
    first, second = done.document["boards"]
    assert first["running"]["state"] == "serving"
    assert "cannot be reached" in second["error"]
    assert "1 of 2 boards failed" in done.err


def test_group_prints_one_line_for_each_board(board: SshBoard, new_bundle: Callable[..., Path]) -> None:
    assert edgekit("device", "add", board.address, "--name", "a", "--group", "hall", "--offline").code == 0

    done = edgekit(
        "flash", "--group", "hall", new_bundle(), "--identity", board.key, "--accept-new",
        "--http", f"127.0.0.1:{board.page_port}",
    )  # fmt: skip

    assert done.code == 0, done
    assert done.out.startswith("a: serving, tiny release 4, bundle ")
    assert len(done.out.splitlines()) == 1


def test_camera_is_the_usual_one_of_the_board(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0

    text = (board.root / "etc/edgekit/agent.toml").read_text("utf-8")
    assert 'source = "picamera2:0"\nwidth = 640\nheight = 480\nfps = 30.0\n' in text


def test_wheels_are_carried_along_when_a_folder_is_named(
    board: SshBoard, flash: Flash, bundle: Path, wheelhouse: Path
) -> None:
    done = flash(bundle, "--accept-new", "--wheels", str(wheelhouse), "--json")

    assert done.code == 0, done
    pip = next(line for line in board.calls if line.startswith("pip ") and "--find-links" in line)
    assert "--no-index" in pip
    assert "ai-edge-litert==2.3.0" in pip
    assert done.document["num_bytes"] > sum(path.stat().st_size for path in wheelhouse.glob("*.whl"))


def _for(board: str) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(
            manifest, compatible=msgspec.structs.replace(manifest.compatible, boards=(board,))
        )

    return change


def test_bundle_for_another_board_is_refused_before_anything_changes(
    board: SshBoard, flash: Flash, new_bundle: Callable[..., Path]
) -> None:
    before = {**board.tree(), "calls.log": ""}

    done = flash(new_bundle(4, _for("jetson_nano")), "--accept-new")

    assert done.code == 3
    assert "it is for jetson_nano; this is raspberry_pi_4b" in done.err
    assert {**board.tree(), "calls.log": ""} == before
