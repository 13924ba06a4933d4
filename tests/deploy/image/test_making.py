"""Images made for real, and judged by debugfs, mtools, e2fsck and fsck.vfat."""

from __future__ import annotations

import filecmp
import gzip
import json
import lzma
import stat
import zipfile
from pathlib import Path

import msgspec
import pytest

from bundles import CARD, write_run
from card_images import (
    COMMAND_LINE,
    MIB,
    ROOT_START,
    CardSpec,
    assert_whole,
    make_card,
    read_boot,
    read_root,
    root_of,
    run_tool,
    stat_root,
)
from edgekit.agent.config import load_config
from edgekit.bundle.manifest import MANIFEST, MODEL
from edgekit.bundle.reading import open_bundle
from edgekit.core.progress import Silent
from edgekit.deploy.image.first_boot import FirstBoot, make_wifi
from edgekit.deploy.image.making import ImageRequest, make_image
from edgekit.deploy.image.plan import GrowRoot

KEY = f"ssh-ed25519 {'A' * 68} maker@home"
FIRST_BOOT = FirstBoot(
    hostname="kitchen", user="maker", ssh_keys=(KEY,), wifi=make_wifi("home net", "correct horse", "DE")
)
STATE = "/var/lib/edgekit"


@pytest.fixture(scope="module")
def made(card: Path, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out.img"
    make_image(ImageRequest(image_path=card, model_path=bundle_path, out=out, first_boot=FIRST_BOOT), Silent())
    return out


def test_image_is_clean(made: Path, tmp_path: Path) -> None:
    assert_whole(made, tmp_path)


def test_bundle_lies_where_the_agent_looks(made: Path, bundle_path: Path, tmp_path: Path) -> None:
    digest = open_bundle(bundle_path).digest
    link = stat_root(made, f"{STATE}/current")
    assert "Type: symlink" in link
    assert read_root(made, f"{STATE}/current") == f"releases/{digest}"
    run_tool("debugfs", "-R", f"rdump {STATE}/releases {tmp_path}", root_of(made))
    assert open_bundle(tmp_path / "releases" / digest).digest == digest


def test_settings_are_what_the_agent_reads(made: Path, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(read_root(made, "/etc/edgekit/agent.toml"))
    config = load_config(tmp_path / "agent.toml")
    assert config.bundle == f"{STATE}/current"
    assert config.camera.source == "picamera2:0"
    assert "0640" in stat_root(made, "/etc/edgekit/agent.toml")


def test_services_are_enabled(made: Path) -> None:
    unit = Path(__file__).resolve().parents[3] / "devices/edgekit-agent.service"
    assert read_root(made, "/etc/systemd/system/edgekit-agent.service") == unit.read_text()
    for name in ("edgekit-agent.service", "edgekit-setup.service"):
        wanted = stat_root(made, f"/etc/systemd/system/multi-user.target.wants/{name}")
        assert f'Fast link dest: "/etc/systemd/system/{name}"' in wanted
    assert "ConditionPathExists=!/opt/edgekit/venv" in read_root(made, "/etc/systemd/system/edgekit-setup.service")


def test_first_boot_knows_name_user_key_and_network(made: Path) -> None:
    assert read_root(made, "/etc/hostname") == "kitchen\n"
    assert "127.0.1.1\tkitchen" in read_root(made, "/etc/hosts")
    assert read_root(made, "/usr/lib/edgekit/authorized_keys") == f"{KEY}\n"
    assert "user=maker\n" in read_root(made, "/usr/lib/edgekit/firstrun.sh")
    assert "maker ALL" in read_root(made, "/etc/sudoers.d/020_edgekit")
    line = read_boot(made, "cmdline.txt")
    assert line.startswith(COMMAND_LINE)
    assert "systemd.run=/usr/lib/edgekit/firstrun.sh" in line


def test_network_password_is_nowhere_and_its_key_only_for_root(made: Path) -> None:
    assert FIRST_BOOT.wifi is not None
    key = FIRST_BOOT.wifi.key_hex or ""
    place = "/etc/NetworkManager/system-connections/edgekit-wifi.nmconnection"
    assert f"psk={key}\n" in read_root(made, place)
    assert "Mode:  0600" in stat_root(made, place)
    content = made.read_bytes()
    assert b"correct horse" not in content
    assert key.encode() not in content[:ROOT_START]
    assert content.count(key.encode()) == 1
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_only_one_file_of_the_boot_partition_changed(made: Path, card: Path) -> None:
    before, after = (run_tool("mdir", "-b", "-i", f"{one}@@{4 * MIB}", "::").stdout for one in (card, made))
    assert before == after
    assert read_boot(made, "kernel8.img") == read_boot(card, "kernel8.img")


def test_everything_is_roots(made: Path) -> None:
    for path in ("/usr/lib/edgekit/setup.sh", "/opt/edgekit/requirements.txt", f"{STATE}/current/{MODEL}"):
        assert "User:     0   Group:     0" in stat_root(made, path)


def test_own_wheel_and_requirements_are_carried(made: Path) -> None:
    names = run_tool("debugfs", "-R", "ls /opt/edgekit/wheels", root_of(made)).stdout
    assert "edgekit-" in names
    lines = read_root(made, "/opt/edgekit/requirements.txt").splitlines()
    assert any(line.startswith("ai-edge-litert==") for line in lines)
    assert any(line.startswith("numpy") for line in lines)
    assert not any("torch" in line or "onnx>" in line for line in lines)


def test_same_input_makes_the_same_bytes(made: Path, card: Path, bundle_path: Path, tmp_path: Path) -> None:
    request = ImageRequest(image_path=card, model_path=bundle_path, out=tmp_path / "again.img", first_boot=FIRST_BOOT)
    make_image(request, Silent())
    assert filecmp.cmp(made, tmp_path / "again.img", shallow=False)


def test_image_can_be_made_of_one_that_was_made(made: Path, bundle_path: Path, tmp_path: Path) -> None:
    request = ImageRequest(image_path=made, model_path=bundle_path, out=tmp_path / "again.img", first_boot=FIRST_BOOT)
    make_image(request, Silent())
    assert_whole(tmp_path / "again.img", tmp_path)
    assert read_boot(tmp_path / "again.img", "cmdline.txt") == read_boot(made, "cmdline.txt")


def test_date_of_the_environment_is_stated(card: Path, bundle_path: Path, tmp_path: Path) -> None:
    request = ImageRequest(
        image_path=card, model_path=bundle_path, out=tmp_path / "dated.img", date_unix_s=1_600_000_000
    )
    make_image(request, Silent())
    assert "Sep 13 12:26:40 2020" in stat_root(tmp_path / "dated.img", "/etc/edgekit/agent.toml")


@pytest.mark.parametrize("kind", ["xz", "gz", "zip"])
def test_packed_image_is_taken(card: Path, bundle_path: Path, tmp_path: Path, kind: str) -> None:
    packed = tmp_path / "in" / "raspios.bin"
    packed.parent.mkdir()
    if kind == "xz":
        packed.write_bytes(lzma.compress(card.read_bytes(), preset=0))
    elif kind == "gz":
        packed.write_bytes(gzip.compress(card.read_bytes(), 1))
    else:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("README", "read me")
            archive.write(card, "raspios.img")
    out = tmp_path / "out" / "out.img"
    make_image(ImageRequest(image_path=packed, model_path=bundle_path, out=out), Silent())
    assert_whole(out, tmp_path)
    assert sorted(one.name for one in out.parent.iterdir()) == ["out.img"]


def test_run_becomes_a_bundle_for_all_boards_of_the_image(card: Path, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run")
    plan = make_image(ImageRequest(image_path=card, model_path=run_dir, out=tmp_path / "out.img"), Silent())
    manifest = json.loads(read_root(tmp_path / "out.img", f"{STATE}/current/{MANIFEST}"))
    assert manifest["compatible"]["boards"] == list(plan.boards)
    assert "raspberry_pi_zero_2_w" in plan.boards
    assert "jetson_nano" not in plan.boards
    assert manifest["model"]["num_classes"] == len(CARD.labels)


def test_root_grows_when_there_is_no_room(bundle_path: Path, tmp_path: Path) -> None:
    spec = CardSpec(root_bytes=40 * MIB, fill_bytes=30 * MIB, block_bytes=4096)
    card = make_card(tmp_path / "full", spec)
    out = tmp_path / "out.img"
    plan = make_image(ImageRequest(image_path=card, model_path=bundle_path, out=out, first_boot=FIRST_BOOT), Silent())
    grown = next(step for step in plan.steps if isinstance(step, GrowRoot))
    assert grown.size_bytes > spec.root_bytes
    assert out.stat().st_size == ROOT_START + grown.size_bytes
    assert_whole(out, tmp_path)
    table = json.loads(run_tool("sfdisk", "-J", out).stdout)["partitiontable"]["partitions"][1]
    assert table["size"] * 512 == grown.size_bytes
    assert read_root(out, "/opt/fill") == "x" * spec.fill_bytes
    blocks = run_tool("dumpe2fs", "-h", root_of(out)).stdout
    assert f"Block count:              {grown.size_bytes // 4096}\n" in blocks
    again = tmp_path / "again.img"
    make_image(ImageRequest(image_path=card, model_path=bundle_path, out=again, first_boot=FIRST_BOOT), Silent())
    assert filecmp.cmp(out, again, shallow=False)


def test_cloud_init_leaves_the_name_when_it_is_there(bundle_path: Path, tmp_path: Path) -> None:
    packages = {"python3": "3.13.5-1", "python3.13-venv": "3.13.5-2", "network-manager": "1.52"}
    spec = CardSpec(version="13", packages=packages, folders=("etc/cloud/cloud.cfg.d",))
    out = tmp_path / "out.img"
    request = ImageRequest(
        image_path=make_card(tmp_path / "trixie", spec),
        model_path=bundle_path,
        out=out,
        first_boot=FirstBoot(hostname="kitchen"),
    )
    plan = make_image(request, Silent())
    assert read_root(out, "/etc/cloud/cloud.cfg.d/99-edgekit.cfg") == "preserve_hostname: true\n"
    assert any("picamera2" in note for note in plan.notes)


def test_dry_run_writes_nothing(card: Path, bundle_path: Path, tmp_path: Path) -> None:
    request = ImageRequest(image_path=card, model_path=bundle_path, out=tmp_path / "out.img", first_boot=FIRST_BOOT)
    before = card.stat().st_mtime_ns
    plan = make_image(request, Silent(), is_dry=True)
    assert plan.steps
    assert list(tmp_path.iterdir()) == []
    assert card.stat().st_mtime_ns == before


def test_plan_is_data_that_can_be_compared(card: Path, bundle_path: Path, tmp_path: Path) -> None:
    request = ImageRequest(image_path=card, model_path=bundle_path, out=tmp_path / "out.img", first_boot=FIRST_BOOT)
    assert make_image(request, Silent(), is_dry=True) == make_image(request, Silent(), is_dry=True)
    assert msgspec.structs.replace(request, camera="v4l2:0") != request
