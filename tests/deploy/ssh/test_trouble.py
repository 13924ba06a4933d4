"""What goes wrong between a user and a board: a clear line each, and a board that the next flash completes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from bundles import plain_contents, with_manifest
from command_line import Outcome, assert_fails, edgekit
from edgekit.bundle.manifest import MODEL, Manifest
from edgekit.bundle.reading import write_bundle
from ssh_board import SshBoard, free_port, wait_for

Flash = Callable[..., Outcome]


def failed(done: Outcome, code: int, *words: str) -> None:
    """As `assert_fails`, after the lines that tell the steps."""
    lines = done.err.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("error: ")), 0)
    assert_fails(done._replace(err="\n".join(lines[first:])), code, *words)


# ------------------------------------------------------------------------------------------------------------- reaching
def test_board_that_does_not_listen_is_named(bundle: Path) -> None:
    done = edgekit("flash", f"pi@127.0.0.1:{free_port()}", bundle, "--accept-new")

    assert_fails(done, 3, "cannot be reached", "is it on, in this network")


def test_host_that_is_nowhere_is_named(bundle: Path) -> None:
    assert_fails(edgekit("flash", "pi@no-such-board.invalid", bundle), 3, "no-such-board.invalid cannot be reached")


@pytest.mark.parametrize("address", ["pi@", "@host", "-oProxyCommand=id", "pi@host:0", "pi@host:x", "a b", "pi@[::1"])
def test_address_that_is_none_is_refused(address: str, bundle: Path) -> None:
    done = edgekit("flash", "--", address, bundle)

    assert done.code == 2
    assert "is no [USER@]HOST[:PORT]" in done.err


def test_damaged_bundle_is_refused_before_anybody_is_called(bundle: Path) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-1])

    assert_fails(edgekit("flash", "pi@no-such-board.invalid", bundle), 2, str(bundle), "truncated")


def test_missing_library_is_named_with_its_extra(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    monkeypatch.setitem(sys.modules, "zeroconf", None)

    assert_fails(edgekit("flash", "pi@kitchen", bundle), 3, "asyncssh", "pip install edgekit[flash]")
    assert_fails(edgekit("device", "discover"), 3, "zeroconf", "pip install edgekit[flash]")


# ------------------------------------------------------------------------------------------------------------ host keys
def test_unknown_host_key_is_refused_with_its_fingerprint(board: SshBoard, flash: Flash, bundle: Path) -> None:
    done = flash(bundle)

    shown = subprocess.run(
        ["ssh-keygen", "-lf", board.folder / "host_key.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert_fails(done, 3, "was never seen before", shown, "--accept-new")
    assert not board.state.exists()


def test_changed_host_key_is_refused_even_with_accept_new(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    (pinned,) = edgekit("device", "list", "--json").document["devices"][0]["host_keys"]
    board.stop()
    board.new_host_key()
    board.start()

    done = flash(bundle, "--accept-new")

    shown = subprocess.run(
        ["ssh-keygen", "-lf", board.folder / "host_key.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert_fails(done, 3, "has changed", pinned, shown, "edgekit device remove")


def test_changed_host_key_is_accepted_after_the_board_was_removed(board: SshBoard, flash: Flash, bundle: Path) -> None:
    assert flash(bundle, "--accept-new").code == 0
    board.stop()
    board.new_host_key()
    board.start()

    assert edgekit("device", "remove", "127.0.0.1").code == 0

    assert_fails(flash(bundle), 3, "was never seen before")
    assert flash(bundle, "--accept-new").code == 0


# ---------------------------------------------------------------------------------------------------------------- login
def test_wrong_key_lets_nobody_in(board: SshBoard, bundle: Path) -> None:
    (board.folder / "authorized_keys").write_text("", encoding="utf-8")

    done = edgekit("flash", board.address, bundle, "--identity", board.key, "--accept-new")

    assert_fails(done, 3, "lets nobody in", "ssh-copy-id")


def test_wrong_password_lets_nobody_in(
    new_board: Callable[..., SshBoard], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = new_board(passwords=True)
    monkeypatch.setenv("EDGEKIT_SSH_PASSWORD", "wrong, surely")

    done = edgekit("flash", device.address, bundle, "--accept-new")

    assert_fails(done, 3, "lets nobody in")
    assert "wrong, surely" not in done.err
    assert "Failed password" in (device.folder / "sshd.log").read_text("utf-8")


def test_private_key_that_is_none_is_named(board: SshBoard, bundle: Path, tmp_path: Path) -> None:
    key = tmp_path / "nonsense"
    key.write_text("no key", encoding="utf-8")

    assert_fails(edgekit("flash", board.address, bundle, "--identity", key, "--accept-new"), 3, "cannot be used")
    assert_fails(edgekit("flash", board.address, bundle, "--identity", tmp_path / "gone"), 2, "no such private key")


# ------------------------------------------------------------------------------------------------- what the board lacks
def test_board_without_python_is_refused_and_says_what_to_install(board: SshBoard, flash: Flash, bundle: Path) -> None:
    for path in board.programs.glob("python3*"):
        path.unlink()

    failed(flash(bundle, "--accept-new"), 3, "there is no Python: apt-get install python3 python3-venv")


def test_board_with_an_old_python_is_refused(new_board: Callable[..., SshBoard], bundle: Path) -> None:
    device = new_board(python="3.6")

    done = edgekit("flash", device.address, bundle, "--identity", device.key, "--accept-new")

    assert_fails(done, 3, "edgekit needs Python 3.10 to 3.13; here is 3.6")


def test_board_that_no_file_describes_is_refused_by_a_bundle_for_another(
    board: SshBoard, flash: Flash, bundle: Path
) -> None:
    (board.root / "model").write_text("Orange Pi Zero\0", encoding="utf-8")
    change = {"compatible": lambda one: msgspec.structs.replace(one, boards=("raspberry_pi_4b",))}

    def only_pi(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, compatible=change["compatible"](manifest.compatible))

    write_bundle(bundle, with_manifest(plain_contents(), only_pi))

    failed(flash(bundle, "--accept-new"), 3, "it is for raspberry_pi_4b; this is host_cpu")


def test_board_without_systemd_is_refused(board: SshBoard, flash: Flash, bundle: Path) -> None:
    (board.root / "run/systemd/system").rmdir()

    failed(flash(bundle, "--accept-new"), 3, "without systemd")


def test_package_that_cannot_be_had_ends_the_flash_and_leaves_no_environment(
    board: SshBoard, flash: Flash, bundle: Path
) -> None:
    (board.root / "pip_fails").touch()

    failed(flash(bundle, "--accept-new"), 3, "making the environment", "No matching distribution found")
    assert not (board.root / "opt/edgekit/venv").exists()

    (board.root / "pip_fails").unlink()
    assert flash(bundle).code == 0


def test_wheels_that_are_not_enough_are_named_before_anything_changes(
    board: SshBoard, flash: Flash, bundle: Path, wheelhouse: Path
) -> None:
    for name in ("numpy", "uvicorn"):
        next(wheelhouse.glob(f"{name}-*.whl")).unlink()

    failed(flash(bundle, "--accept-new", "--wheels", str(wheelhouse)), 3, "none for Python 3.11", "numpy, uvicorn")
    assert not (board.root / "opt/edgekit").exists()


def test_clock_of_1970_is_set_from_ours(board: SshBoard, flash: Flash, bundle: Path) -> None:
    (board.root / "clock").write_text("@10", encoding="utf-8")

    done = flash(bundle, "--accept-new", "--json")

    assert done.code == 0, done
    assert done.document["steps"][0]["kind"] == "set_clock"
    now = int((board.root / "clock").read_text("utf-8").lstrip("@"))
    assert abs(now - time.time()) < 3600


def test_agent_that_does_not_come_up_is_told_with_its_journal(
    board: SshBoard, flash: Flash, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.deploy.ssh.status.READY_S", 1.0)
    (board.root / "fail_to_start").touch()
    (board.root / "run/agent.log").write_text("camera: no such device\n", encoding="utf-8")

    failed(flash(bundle, "--accept-new"), 3, "does not serve after 1 s", "camera: no such device")


# ------------------------------------------------------------------------------------------------------ full, cut, busy
@pytest.fixture
def large_bundle(tmp_path: Path) -> Path:
    """Some megabytes, which take a moment to send."""
    contents = plain_contents()
    contents[MODEL] = os.urandom(6 * 1024 * 1024)

    def adapt(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(
            manifest, compatible=msgspec.structs.replace(manifest.compatible, architectures=())
        )

    path = tmp_path / "large.ekb"
    write_bundle(path, with_manifest(contents, adapt))
    return path


@pytest.fixture
def small_cache(board: SshBoard) -> Iterator[Path]:
    """The folder of what is sent, on a disk of 3 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    folder = board.root / "var/cache/edgekit-flash"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_is_called_full_and_the_next_flash_goes_on(
    board: SshBoard, flash: Flash, large_bundle: Path, small_cache: Path
) -> None:
    failed(flash(large_bundle, "--accept-new"), 3, "the disk is full", "KiB free in")
    assert not (board.state / "current").exists()

    subprocess.run(["mount", "-o", "remount,size=20m", small_cache], check=True)
    done = flash(large_bundle, "--json")

    assert done.code == 0, done
    assert done.document["num_bytes"] < large_bundle.stat().st_size


def test_upload_that_was_cut_goes_on_where_it_was(
    board: SshBoard, flash: Flash, large_bundle: Path, new_bundle: Callable[..., Path]
) -> None:
    assert flash(new_bundle(), "--accept-new").code == 0
    cache = board.root / "var/cache/edgekit-flash"
    size = large_bundle.stat().st_size

    def num_there() -> int:
        return sum(path.stat().st_size for path in cache.glob("*.ekb.part"))

    def cut_in_the_middle() -> None:
        wait_for(lambda: num_there() > size // 8, "upload")
        board.cut()

    cutter = threading.Thread(target=cut_in_the_middle)
    cutter.start()
    done = flash(large_bundle)
    cutter.join()

    failed(done, 3, "the connection broke", "goes on where it was")
    kept = num_there()
    assert size // 8 < kept < size
    done = flash(large_bundle, "--json")
    assert done.code == 0, done
    assert done.document["num_bytes"] == size - kept
    assert done.document["running"]["state"] == "serving"


def test_part_of_another_file_is_not_gone_on_with(
    board: SshBoard, flash: Flash, large_bundle: Path, new_bundle: Callable[..., Path]
) -> None:
    from edgekit.bundle.reading import open_bundle

    assert flash(new_bundle(), "--accept-new").code == 0
    part = board.root / f"var/cache/edgekit-flash/{open_bundle(large_bundle).digest}.ekb.part"
    part.write_bytes(b"something else")

    done = flash(large_bundle, "--json")

    assert done.code == 0, done
    assert done.document["num_bytes"] == large_bundle.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("left", ["environment", "unit", "config", "bundle", "link"])
def test_half_provisioned_board_is_completed(board: SshBoard, flash: Flash, bundle: Path, left: str) -> None:
    """As an interruption just before each step leaves it."""
    assert flash(bundle, "--accept-new").code == 0
    before = board.tree()
    gone = {
        "environment": ["opt/edgekit/venv"],
        "link": ["opt/edgekit/venv", "var/lib/edgekit/current", "etc/edgekit/agent.toml"],
        "unit": ["etc/systemd/system/edgekit-agent.service"],
        "config": ["etc/edgekit/agent.toml"],
        "bundle": ["var/lib/edgekit/current"],
    }
    for name in gone[left]:
        (board.root / name).unlink()

    done = flash(bundle, "--json")

    assert done.code == 0, done
    assert done.document["running"]["state"] == "serving"
    after = board.tree()
    changing = ("run/", "calls.log", "var/lib/edgekit/previous")
    assert {k: v for k, v in after.items() if not k.startswith(changing)} == {
        k: v for k, v in before.items() if not k.startswith(changing)
    }


def test_second_flash_at_the_same_time_says_who_is_there(
    board: SshBoard, flash: Flash, bundle: Path, new_bundle: Callable[..., Path]
) -> None:
    assert flash(bundle, "--accept-new").code == 0
    lock = board.root / "run/edgekit-flash.lock"
    holder = subprocess.Popen(
        ["flock", lock, "sh", "-c", 'echo "anna@desk (process 7)" >"$0.holder"; echo held; read line', lock],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdout.readline()

    done = flash(new_bundle(5))
    holder.stdin.close()
    holder.stdout.close()
    holder.wait(20)

    failed(done, 3, "is being flashed by anna@desk (process 7)")
    assert flash(new_bundle(5)).code == 0


def test_lock_is_free_after_the_connection_of_its_holder_was_cut(
    board: SshBoard, flash: Flash, large_bundle: Path, bundle: Path
) -> None:
    assert flash(bundle, "--accept-new").code == 0
    lock = board.root / "run/edgekit-flash.lock"

    def cut_while_it_is_held() -> None:
        wait_for((lock.parent / f"{lock.name}.holder").exists, "holder")
        board.cut()

    cutter = threading.Thread(target=cut_while_it_is_held)
    cutter.start()
    assert flash(large_bundle).code == 3
    cutter.join()

    wait_for(lambda: subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 0, "free lock")
