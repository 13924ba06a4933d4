"""Facts and wishes to steps and refusals: pure, so that every board can be tried without one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bundles import plain_manifest
from edgekit.agent.config import load_config
from edgekit.core.board import list_boards, load_board
from edgekit.deploy.ssh.configuration import AgentSettings, config_text, find_camera, find_page, wants_updates
from edgekit.deploy.ssh.facts import BoardFound, PythonFacts
from edgekit.deploy.ssh.layout import UPDATE_SERVICE, UPDATE_TIMER, Layout, unit_text
from edgekit.deploy.ssh.plan import MakeEnvironment, Payload, Plan, StartAgent, WriteFile, describe_step
from edgekit.deploy.ssh.planning import Wishes, find_board, make_plan
from edgekit.deploy.wheelhouse import Wheel

NOW = 1_800_000_000
BOARDS = tuple(load_board(name) for name in list_boards())
PI = "Raspberry Pi 4 Model B Rev 1.4"


def python(version: str, **changes: Any) -> PythonFacts:
    major, minor = map(int, version.split("."))
    facts = PythonFacts(path=f"/usr/bin/python{version}", version=(major, minor), has_venv=True, numpy=None)
    return msgspec.structs.replace(facts, **changes)


def found(**changes: Any) -> BoardFound:
    """A Raspberry Pi 4 with a fresh Raspberry Pi OS 12."""
    bare = BoardFound(
        privilege="free",
        system="Linux",
        architecture="aarch64",
        hostname="kitchen",
        clock_unix_s=NOW,
        os="Debian GNU/Linux 12 (bookworm)",
        model=PI,
        memory_mib=1900.0,
        free_memory_mib=1500.0,
        free_opt_mib=20_000.0,
        free_state_mib=20_000.0,
        glibc=(2, 36),
        libraries=("libstdc++.so.6",),
        has_systemd=True,
        pythons=(python("3.11"),),
    )
    return msgspec.structs.replace(bare, **changes)


def wishes(*boards: str, **changes: Any) -> Wishes:
    manifest = plain_manifest()
    names = boards or ("raspberry_pi_4b",)
    compatible = msgspec.structs.replace(manifest.compatible, boards=names, architectures=("aarch64",))
    payload = Payload(
        path=Path("pets.ekb"),
        digest="ab" * 32,
        size_bytes=1000,
        sha256="cd" * 32,
        manifest=msgspec.structs.replace(manifest, compatible=compatible),
    )
    plain = Wishes(payload=payload, wheel_digest="ef" * 32, requires=("numpy>=1.26", "psutil>=5.9"), now_unix_s=NOW)
    return msgspec.structs.replace(plain, **changes)


def plan(board: BoardFound, wanted: Wishes | None = None) -> Plan:
    return make_plan(board, find_board(board, BOARDS), wanted or wishes())


def kinds(made: Plan) -> list[str]:
    return [str(step.__struct_config__.tag) for step in made.steps]


def environment(made: Plan) -> MakeEnvironment:
    return next(step for step in made.steps if isinstance(step, MakeEnvironment))


def done(wanted: Wishes | None = None) -> BoardFound:
    """The board after a flash."""
    wanted = wanted or wishes()
    made = plan(found(), wanted)
    return found(
        has_user=True,
        environment=environment(made).name,
        edgekit="0.1.0",
        digest=wanted.payload.digest,
        unit_sha256=hashlib.sha256(unit_text(wanted.layout).encode()).hexdigest(),
        config=config_text(wanted.settings, load_board("raspberry_pi_4b"), wanted.layout),
        is_enabled=True,
        active="active",
    )


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


def test_board_looks_for_updates_where_it_was_told_and_goes_on_to() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    made = plan(found(), told)
    files = {step.path: step.content for step in made.steps if isinstance(step, WriteFile)}
    assert kinds(made)[-2:] == ["start_agent", "start_timer"]
    assert wants_updates(files["/etc/edgekit/agent.toml"])
    assert "edgekit agent update" in files["/etc/systemd/system/edgekit-update.service"]

    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(done(told), update_sha256=tuple(hashes), has_timer=True)
    assert kinds(plan(there)) == []  # nothing is said this time: the configuration is kept
    half = msgspec.structs.replace(there, update_sha256=(hashes[0], None))
    assert kinds(plan(half)) == ["make_folders", "write_file", "start_timer"]  # the agent is left alone
    assert kinds(plan(msgspec.structs.replace(there, has_timer=False))) == ["make_folders", "start_timer"]


@pytest.mark.parametrize("digest", ["ab" * 32, "00" * 32])
def test_agent_that_an_interrupted_flash_did_not_start_again_is_started_again(digest: str) -> None:
    """Everything on the disk is right, the process is of before."""
    behind = msgspec.structs.replace(done(), unstarted=("edgekit-agent.service",), digest=digest)

    made = plan(behind)

    install = [] if digest == wishes().payload.digest else ["install_bundle"]
    assert kinds(made) == ["make_folders", *install, "start_agent"]
    assert made.units_to_start == ("edgekit-agent.service",)
    (start,) = [step for step in made.steps if isinstance(step, StartAgent)]
    assert start.is_restart
    assert "did not come to its end" in start.why


def test_timer_that_an_interrupted_flash_did_not_start_is_started() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(
        done(told), update_sha256=tuple(hashes), has_timer=True, unstarted=("edgekit-update.timer",)
    )

    assert kinds(plan(there)) == ["make_folders", "start_timer"]


def test_plan_without_a_new_start_announces_none() -> None:
    assert plan(msgspec.structs.replace(done(), digest="00" * 32)).units_to_start == ()
    assert plan(found()).units_to_start == ()  # nothing runs yet: the next flash sees that by itself


def test_updates_go_on_when_only_the_camera_is_named() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(done(told), update_sha256=tuple(hashes), has_timer=True)

    made = plan(there, wishes(settings=AgentSettings(camera="v4l2:1")))

    assert kinds(made) == ["make_folders", "write_file", "start_agent"]
    (written,) = [step.content for step in made.steps if isinstance(step, WriteFile)]
    assert find_camera(written) == "v4l2:1"
    assert 'url = "http://updates.local/models"' in written


def test_updates_end_with_their_timer_when_that_is_said() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(done(told), update_sha256=tuple(hashes), has_timer=True)

    made = plan(there, wishes(settings=AgentSettings(updates="")))

    assert kinds(made) == ["make_folders", "write_file", "start_agent", "stop_timer"]
    (written,) = [step.content for step in made.steps if isinstance(step, WriteFile)]
    assert not wants_updates(written)
    after = msgspec.structs.replace(there, config=written, has_timer=False)
    assert kinds(plan(after, wishes(settings=AgentSettings(updates="")))) == []


def test_configuration_that_no_option_can_change_is_refused_and_kept() -> None:
    odd = msgspec.structs.replace(done(), config='camera.source = "v4l2:0"\n')

    made = plan(odd, wishes(settings=AgentSettings(camera="v4l2:1")))

    assert made.steps == ()
    assert "written so that no option can change it" in made.refusals[0]
    assert plan(odd, wishes()).refusals == ()  # nothing is said: it stays


def test_configuration_that_is_no_toml_is_written_anew_when_options_are_given() -> None:
    broken = msgspec.structs.replace(done(), config="no toml [")

    made = plan(broken, wishes(settings=AgentSettings(camera="v4l2:1")))

    (written,) = [step.content for step in made.steps if isinstance(step, WriteFile)]
    assert find_camera(written) == "v4l2:1"


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
