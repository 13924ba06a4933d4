"""The emulated boards without an emulator: what they say when they cannot start, and what goes into them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from emulated_device import board, guest, namespaces, places, rootfs
from emulated_device.remote import Remote


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every program were installed, and this were root."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.mark.usefixtures("programs")
def test_guest_says_how_to_build_it_when_there_is_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = guest.main(["--dir", str(tmp_path), "boot"])

    assert code == 3
    assert "tools/emulated_device/guest build" in capsys.readouterr().err


def test_guest_says_which_program_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert "qemu-system-aarch64" in str(guest.Guest(tmp_path / "guest").obstacle)


@pytest.mark.usefixtures("programs")
def test_board_says_how_to_build_it_when_there_is_no_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = board.main(["--dir", str(tmp_path), "up"])

    assert code == 3
    assert "tools/emulated_device/board build" in capsys.readouterr().err


def test_board_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    assert "root" in str(board.Board(tmp_path / "board").obstacle)
    with pytest.raises(rootfs.BuildError, match="root"):
        rootfs.build_root(rootfs.RootPlan(is_machine=False), tmp_path / "root", "key")


def test_status_is_one_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guest.main(["--dir", str(tmp_path), "status"]) == 0

    status = json.loads(capsys.readouterr().out)
    assert status == {"folder": str(tmp_path / "guest"), "is_built": False, "pid": None}


@pytest.mark.parametrize("is_machine", [False, True])
def test_image_is_stale_when_what_goes_into_it_changes(monkeypatch: pytest.MonkeyPatch, is_machine: bool) -> None:
    plan = rootfs.RootPlan(is_machine=is_machine)
    before = rootfs.fingerprint(plan)

    assert rootfs.fingerprint(plan) == before
    assert rootfs.fingerprint(rootfs.RootPlan(is_machine=is_machine, cpu="cortex-a76")) != before
    assert rootfs.fingerprint(plan, "another text") != before
    monkeypatch.setattr(rootfs, "WHEELS", rootfs.WHEELS + " onnxruntime")
    assert rootfs.fingerprint(plan) != before


def test_only_a_machine_has_a_kernel() -> None:
    assert "linux-image-arm64" in rootfs.RootPlan(is_machine=True).packages
    assert "linux-image-arm64" not in rootfs.RootPlan(is_machine=False).packages


def test_folder_of_images_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_EMULATED_DIR", str(tmp_path))
    assert places.default_folder() == tmp_path

    monkeypatch.delenv("EDGEKIT_EMULATED_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert places.default_folder().parent == tmp_path / "cache"


def test_a_command_that_gives_no_answer_in_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remote, "ssh", lambda _, command: ["sh", "-c", command])
    remote = Remote("127.0.0.1", 1, tmp_path / "key", tmp_path / "hosts")

    assert remote.run("echo heard") == "heard\n"
    assert remote.run("exit 3", check=False) == ""
    with pytest.raises(rootfs.BuildError, match=r"exit 3: echo why >&2; exit 3\nwhy"):
        remote.run("echo why >&2; exit 3")
    with pytest.raises(rootfs.BuildError, match="no answer within"):
        remote.run("exec sleep 30", timeout_s=0.2)


def test_copy_keeps_the_names_of_what_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remote, "ssh", lambda _, command: ["sh", "-c", command])
    (tmp_path / "from").mkdir()
    (tmp_path / "from/a file").write_text("content", encoding="utf-8")

    Remote("127.0.0.1", 1, tmp_path / "key", tmp_path / "hosts").copy(
        [tmp_path / "from/a file", tmp_path / "from"], str(tmp_path / "to there")
    )

    assert (tmp_path / "to there/a file").read_text("utf-8") == "content"
    assert (tmp_path / "to there/from/a file").read_text("utf-8") == "content"


def test_cgroup_is_where_the_host_has_its_own() -> None:
    if " cgroup2 " not in Path("/proc/mounts").read_text("utf-8"):
        pytest.skip("no cgroup v2 is mounted here")
    cgroup = namespaces.find_cgroup("edgekit-test-that-is-not-there")

    assert cgroup.path.parent.joinpath("cgroup.procs").is_file()
    assert not cgroup.is_populated
