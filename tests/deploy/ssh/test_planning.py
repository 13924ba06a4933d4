"""Facts and wishes to steps and refusals: pure, so that every board can be tried without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from edgekit.agent.config import load_config
from edgekit.core.board import list_boards, load_board
from edgekit.deploy.ssh.configuration import AgentSettings, config_text, find_camera, find_page
from edgekit.deploy.ssh.layout import Layout
from edgekit.deploy.ssh.plan import Plan, WriteFile, describe_step
from edgekit.deploy.wheelhouse import Wheel
from flash_plans import NOW, PI, done, environment, found, kinds, plan, python, wishes


# --------------------------------------------------------------------------------------------------------------- steps
def test_bare_board_gets_everything_in_order() -> None:
    made = plan(found())

    assert made.refusals == ()
    assert kinds(made) == [
        "make_user", "make_folders", "make_environment", "write_file", "write_file", "install_bundle", "start_agent",
    ]  # fmt: skip
    assert all(step.why for step in made.steps)
    assert all(describe_step(step) for step in made.steps)


def test_flashed_board_gets_nothing() -> None:
    assert plan(done()) == Plan(
        board="raspberry_pi_4b", payload=wishes().payload, runtime="ai-edge-litert==2.3.0", steps=()
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"digest": "00" * 32}, ["make_folders", "install_bundle"]),
        ({"environment": "venv-0"}, ["make_folders", "make_environment", "start_agent"]),
        ({"unit_sha256": "00" * 32}, ["make_folders", "write_file", "start_agent"]),
        ({"config": None}, ["make_folders", "write_file", "start_agent"]),
        ({"active": "failed"}, ["make_folders", "start_agent"]),
        ({"is_enabled": False}, ["make_folders", "start_agent"]),
        ({"active": "activating"}, []),
    ],
)
def test_only_what_is_missing_is_done(changes: dict[str, Any], expected: list[str]) -> None:
    assert kinds(plan(msgspec.structs.replace(done(), **changes))) == expected


def test_other_code_makes_another_environment() -> None:
    one, other = (environment(plan(found(), wishes(wheel_digest=digest * 32))) for digest in ("ab", "cd"))

    assert one.name != other.name


def test_environment_has_another_name_after_an_upgrade_of_the_system() -> None:
    same_path = {"path": "/usr/bin/python3"}

    old, new = (plan(found(pythons=(python(version, **same_path),))) for version in ("3.11", "3.13"))

    assert environment(old).name != environment(new).name


def test_clock_before_edgekit_was_made_is_set_first() -> None:
    assert kinds(plan(found(clock_unix_s=10)))[0] == "set_clock"


def test_clock_is_left_alone_when_ours_is_wrong_too() -> None:
    assert "set_clock" not in kinds(plan(found(clock_unix_s=10), wishes(now_unix_s=20)))


def test_clock_that_is_days_off_is_told() -> None:
    assert "its clock is 3 days behind this machine's" in plan(found(clock_unix_s=NOW - 3 * 86_400)).notes


def test_root_of_trust_is_pinned_once_and_another_one_is_told() -> None:
    wanted = wishes(root_json="{}")
    first = plan(found(), wanted)
    later = plan(msgspec.structs.replace(done(), root_sha256="00" * 32, digest="00" * 32), wanted)

    written = [step.path for step in first.steps if isinstance(step, WriteFile)]
    assert "/var/lib/edgekit/update/pinned-root.json" in written
    assert not [step for step in later.steps if isinstance(step, WriteFile)]
    assert any("another root of trust" in text for text in later.notes)


def test_board_with_avahi_announces_itself_without_a_new_start() -> None:
    silent = msgspec.structs.replace(done(), has_avahi=True)

    made = plan(silent, wishes(ssh_port=2222))

    assert kinds(made) == ["make_folders", "write_file"]
    (written,) = [step for step in made.steps if isinstance(step, WriteFile)]
    assert written.path == "/etc/avahi/services/edgekit.service"
    service = ET.fromstring(written.content.split("\n", 2)[2]).find("service")
    assert service is not None
    assert service.findtext("type") == "_edgekit._tcp"
    assert [record.text for record in service.iter("txt-record")] == ["board=raspberry_pi_4b", "ssh_port=2222"]


# -------------------------------------------------------------------------------------------------------------- runtime
@pytest.mark.parametrize(
    ("model", "board", "version", "runtime"),
    [
        (PI, "raspberry_pi_4b", "3.11", "ai-edge-litert==2.3.0"),
        (PI, "raspberry_pi_4b", "3.13", "ai-edge-litert==2.3.0"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry_pi_zero_2_w", "3.11", "ai-edge-litert==2.3.0"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "jetson_orin_nano", "3.10", "ai-edge-litert==2.3.0"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson_nano", "3.10", "ai-edge-litert==2.3.0"),
    ],
)
def test_runtime_is_what_the_board_file_knows_for_its_python(
    model: str, board: str, version: str, runtime: str
) -> None:
    made = plan(found(model=model, pythons=(python(version),)), wishes(board))

    assert (made.board, made.runtime, made.refusals) == (board, runtime, ())


def test_runtime_is_the_next_one_when_the_first_is_too_old() -> None:
    wanted = wishes()
    manifest = wanted.payload.manifest
    litert, onnx = manifest.compatible.runtimes
    needs = (msgspec.structs.replace(litert, at_least="99"), onnx)
    compatible = msgspec.structs.replace(manifest.compatible, runtimes=needs)
    payload = msgspec.structs.replace(wanted.payload, manifest=msgspec.structs.replace(manifest, compatible=compatible))

    made = plan(found(), msgspec.structs.replace(wanted, payload=payload))

    assert made.runtime == "onnxruntime==1.32.0"


def test_runtime_that_no_python_there_can_have_is_refused_with_what_there_is() -> None:
    (reason,) = plan(found(pythons=(python("3.12"),))).refusals

    assert "here is Python 3.12" in reason
    assert "Python 3.11: ai-edge-litert 2.3.0" in reason


def test_newest_python_that_can_is_taken_and_one_in_a_home_folder_last() -> None:
    pythons = (python("3.13", path="/home/pi/.pyenv/bin/python3"), python("3.12"), python("3.11"))

    assert environment(plan(found(pythons=pythons))).python == "/usr/bin/python3.11"


def test_jetson_nano_needs_a_python_beside_its_own() -> None:
    nano = {"model": "NVIDIA Jetson Nano Developer Kit", "glibc": (2, 27)}

    (reason,) = plan(found(pythons=(python("3.6"),), **nano), wishes("jetson_nano")).refusals
    beside = plan(found(pythons=(python("3.10"), python("3.6")), **nano), wishes("jetson_nano"))

    assert reason == "edgekit needs Python 3.10 to 3.13; here is 3.6: put one of these beside it"
    assert environment(beside).python == "/usr/bin/python3.10"


def test_system_packages_are_seen_where_the_camera_needs_them() -> None:
    """Raspberry Pi OS 12 has a picamera2 that was built against numpy 1; numpy 2 beside it breaks its import."""
    pi = environment(plan(found(pythons=(python("3.11", numpy="1.24.2"),))))
    newer = environment(plan(found(pythons=(python("3.13", numpy="2.2.4"),))))

    assert (pi.with_system_packages, pi.constraints) == (True, ("numpy<2",))
    assert (newer.with_system_packages, newer.constraints) == (True, ())


# ------------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "armv7l"}, "it is for aarch64; this is armv7l"),
        ({"model": "Raspberry Pi 5 Model B Rev 1.0"}, "it is for raspberry_pi_4b; this is raspberry_pi_5"),
        ({"model": ""}, "it is for raspberry_pi_4b; this is host_cpu"),
        ({"free_memory_mib": 50.0}, "it needs 100 MiB of memory; free are 50 MiB"),
        ({"free_state_mib": 3.0}, "it needs 10 MiB of disk; free are 3 MiB"),
        ({"free_opt_mib": 100.0}, "450 MiB are needed in /opt/edgekit; free are 100 MiB"),
        ({"has_systemd": False}, "without systemd"),
        ({"system": "Darwin"}, "without systemd"),
        ({"privilege": "none"}, "no sudo for this user"),
        ({"privilege": "locked"}, "sudo there wants a password"),
        ({"glibc": None}, "here is another C library"),
        ({"glibc": (2, 24)}, "here is glibc 2.24"),
        ({"libraries": ()}, "apt-get install libstdc++6"),
        ({"pythons": ()}, "there is no Python: apt-get install python3 python3-venv"),
        ({"pythons": (python("3.9"),)}, "edgekit needs Python 3.10 to 3.13; here is 3.9"),
        ({"pythons": (python("3.11", has_venv=False),)}, "/usr/bin/python3.11 has no pip"),
    ],
)
def test_board_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    made = plan(found(**changes))

    assert made.steps == ()
    assert reason in "; ".join(made.refusals)


def test_memory_that_the_serving_agent_takes_is_not_missing() -> None:
    """A Zero 2 W has little besides the agent: the new model comes in its place."""
    busy = msgspec.structs.replace(done(), digest="00" * 32, free_memory_mib=50.0)

    assert plan(busy).refusals == ()


# --------------------------------------------------------------------------------------------------------------- wheels
def wheel(name: str, version: str, python_tag: str = "py3", abi: str = "none", platform: str = "any") -> Wheel:
    return Wheel(
        path=Path(f"{name}.whl"),
        size_bytes=10,
        distribution=name,
        version=version,
        pythons=(python_tag,),
        abis=(abi,),
        platforms=(platform,),
    )


def carried(*others: Wheel) -> tuple[Wheel, ...]:
    litert = wheel("ai-edge-litert", "2.1.0", "cp311", "cp311", "manylinux_2_27_aarch64")
    return (litert, wheel("numpy", "2.0", "cp311", "cp311", "manylinux_2_17_aarch64"), wheel("psutil", "6.0"), *others)


def test_wheels_that_fit_are_carried_and_the_runtime_is_theirs() -> None:
    foreign = wheel("numpy", "2.0", "cp311", "cp311", "manylinux_2_17_x86_64")

    made = plan(found(), wishes(wheels=carried(foreign)))

    assert made.runtime == "ai-edge-litert==2.1.0"
    assert environment(made).wheels == carried()
    assert made.num_bytes == 1000 + 3 * 10


def test_pip_that_is_carried_makes_up_for_a_missing_one() -> None:
    bare = found(pythons=(python("3.11", has_venv=False),))

    assert plan(bare, wishes(wheels=carried(wheel("pip", "25.0")))).refusals == ()
    assert "has no pip" in plan(bare, wishes(wheels=carried())).refusals[0]


def test_wheels_for_another_python_are_none() -> None:
    made = plan(found(pythons=(python("3.13"),)), wishes(wheels=carried()))

    assert "among the wheels is none for Python 3.13 on aarch64" in made.refusals[0]


# -------------------------------------------------------------------------------------------------------- configuration
@pytest.mark.parametrize(
    "settings",
    [
        AgentSettings(),
        AgentSettings(camera='rtsp://u:p@10.0.0.7/"door"', device_id="kitchen"),
        AgentSettings(http=("0.0.0.0", 9000), token="a" * 24, mqtt=("broker", None)),
        AgentSettings(has_page=False, mqtt=("broker", 1884)),
    ],
)
@pytest.mark.parametrize("board", list_boards())
def test_configuration_is_one_that_the_agent_takes(settings: AgentSettings, board: str, tmp_path: Path) -> None:
    text = config_text(settings, load_board(board), Layout())
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")

    config = load_config(path)

    assert config.bundle == "/var/lib/edgekit/current"
    assert config.device_id == settings.device_id
    if settings.camera is not None:
        assert config.camera.source == settings.camera == find_camera(text)
    page = find_page(text)
    if settings.has_page:
        assert page is not None
        assert config.web is not None
        assert (config.web.port, config.web.token) == (page.port, page.token)
    assert (config.mqtt is None) == (settings.mqtt is None)


def test_no_page_is_told_from_the_usual_one() -> None:
    assert find_page(None) is None
    assert find_page("no toml [") is None
    usual = find_page("")
    assert usual is not None
    assert usual.port == 8080
