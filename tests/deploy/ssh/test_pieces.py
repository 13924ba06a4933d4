"""Host keys, wheels, this edgekit as a wheel, verdicts: what needs no board."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from edgekit.core.address import Address, parse_address
from edgekit.core.errors import BarNotMetError, BoardError, IntegrityError, UsageError
from edgekit.deploy.ssh.host_keys import HostKey, forget, pin, read_pins
from edgekit.deploy.ssh.installing import read_verdict
from edgekit.deploy.ssh.layout import Layout, unit_text
from edgekit.deploy.ssh.own_wheel import RUNTIME_DISTRIBUTIONS, encode_wheel, read_own_wheel
from edgekit.deploy.ssh.several import for_each
from edgekit.deploy.wheelhouse import Target, normalize, parse_wheel, read_wheelhouse
from ssh_board import keygen
from wheels import write_wheel


# ------------------------------------------------------------------------------------------------------------ host keys
def read_key(path: Path) -> HostKey:
    algorithm, content = path.with_suffix(".pub").read_text("ascii").split()[:2]
    return HostKey(algorithm=algorithm, content=content)


def test_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    keygen(tmp_path / "key")

    said = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key"], capture_output=True, text=True, check=True).stdout

    assert read_key(tmp_path / "key").fingerprint == said.split()[1]


def test_pins_are_found_by_openssh_too(tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    address = Address(host="Kitchen.local", port=2222)
    pin(tmp_path, address, read_key(tmp_path / "key"))

    said = subprocess.run(
        ["ssh-keygen", "-F", "[kitchen.local]:2222", "-f", tmp_path / "known_hosts"], capture_output=True, check=False
    )

    assert said.returncode == 0
    assert read_pins(tmp_path, address) == (read_key(tmp_path / "key"),)


def test_pin_replaces_the_old_key_and_leaves_other_hosts(tmp_path: Path) -> None:
    one, other = Address(host="one"), Address(host="other")
    keys = [HostKey(algorithm="ssh-ed25519", content=content) for content in ("AAAA", "BBBB")]
    for address in (one, other):
        pin(tmp_path, address, keys[0])

    pin(tmp_path, one, keys[1])

    assert read_pins(tmp_path, one) == (keys[1],)
    assert read_pins(tmp_path, other) == (keys[0],)
    assert forget(tmp_path, one)
    assert not forget(tmp_path, one)
    assert read_pins(tmp_path, one) == ()


@pytest.mark.parametrize("line", ["kitchen", "kitchen ssh-ed25519", "kitchen ssh-ed25519 n!t-base64"])
def test_damaged_pins_are_an_error_and_not_an_unknown_host(tmp_path: Path, line: str) -> None:
    (tmp_path / "known_hosts").write_text(f"# mine\n{line}\n", encoding="utf-8")

    with pytest.raises(IntegrityError, match="line 2"):
        read_pins(tmp_path, Address(host="kitchen"))


# -------------------------------------------------------------------------------------------------------------- address
@pytest.mark.parametrize("text", ["kitchen", "pi@kitchen.local", "pi@10.0.0.7:2222", "[fe80::1%eth0]:2222", "u@[::1]"])
def test_address_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["", "@", "pi@", "-x", "a b", "host:", "host:99999", "host:-1", "[::1", "a@b@c", "h\n"]
)
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no"):
        parse_address(text)


# --------------------------------------------------------------------------------------------------------------- wheels
@pytest.mark.parametrize(
    ("name", "architecture", "python", "glibc", "fits"),
    [
        ("rich-14.0-py3-none-any.whl", "aarch64", (3, 11), (2, 36), True),
        (
            "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
            "aarch64",
            (3, 11),
            (2, 36),
            True,
        ),
        ("numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl", "aarch64", (3, 11), (2, 27), False),
        ("numpy-2.4.6-cp311-cp311-manylinux2014_aarch64.whl", "aarch64", (3, 11), (2, 27), True),
        ("numpy-2.4.6-cp311-cp311-manylinux2014_aarch64.whl", "aarch64", (3, 13), (2, 36), False),
        ("numpy-2.4.6-cp311-cp311-manylinux2014_x86_64.whl", "aarch64", (3, 11), (2, 36), False),
        ("psutil-7.0-cp36-abi3-manylinux2014_aarch64.whl", "aarch64", (3, 13), (2, 36), True),
        ("psutil-7.0-cp312-abi3-manylinux2014_aarch64.whl", "aarch64", (3, 11), (2, 36), False),
        ("numpy-2.4.6-cp311-cp311-musllinux_1_2_aarch64.whl", "aarch64", (3, 11), (2, 36), False),
    ],
)
def test_wheel_fits_by_its_name(
    tmp_path: Path, name: str, architecture: str, python: tuple[int, int], glibc: tuple[int, int], fits: bool
) -> None:
    (tmp_path / name).write_bytes(b"x")

    target = Target(architecture=architecture, python=python, glibc=glibc)
    assert parse_wheel(tmp_path / name).fits(target) is fits


def test_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")

    with pytest.raises(UsageError, match="holds no wheels"):
        read_wheelhouse(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        read_wheelhouse(tmp_path / "gone")


def test_wheelhouse_lists_its_wheels_by_normal_name(tmp_path: Path) -> None:
    write_wheel(tmp_path, "ai-edge-litert", "2.3.0")

    (wheel,) = read_wheelhouse(tmp_path)

    assert (wheel.distribution, wheel.version) == (normalize("AI_Edge.LiteRT"), "2.3.0")


def test_own_wheel_is_the_same_twice_and_has_what_the_board_needs() -> None:
    own = read_own_wheel()

    assert encode_wheel(own) == encode_wheel(read_own_wheel())
    names = {name for name, _ in own.files}
    assert {"edgekit/cli/main.py", "edgekit/devices/edgekit-agent.service", "edgekit/deploy/ssh/facts.sh"} <= names
    assert not [name for name in names if name.endswith((".pyc", ".safetensors"))]
    assert not [line for line in own.agent_requires if line.startswith((*RUNTIME_DISTRIBUTIONS, "edgekit", "torch"))]
    assert any(line.startswith("tuf") for line in own.agent_requires)


@pytest.mark.slow
def test_own_wheel_is_one_that_pip_installs_and_that_runs(tmp_path: Path) -> None:
    own = read_own_wheel()
    path = tmp_path / own.name
    path.write_bytes(encode_wheel(own))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None

    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path / "there", path], check=True)
    code = "from edgekit.core.board import list_boards; import edgekit; print(edgekit.__file__, *list_boards())"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "there", capture_output=True, text=True, check=True
    ).stdout

    assert said.startswith(str(tmp_path / "there"))
    assert "raspberry_pi_4b" in said
    assert (tmp_path / "there/bin/edgekit").is_file()


# ------------------------------------------------------------------------------------------------------------- verdicts
def test_verdict_that_is_good_is_returned() -> None:
    document = {"result": "committed", "digest": "ab", "serving": "ab", "unknown": 1}

    assert read_verdict(msgspec.json.encode(document).decode(), "", 0, "kitchen").is_good


def test_verdict_that_is_bad_raises_with_the_numbers() -> None:
    findings = [
        {"rule": "loads", "outcome": "passed", "detail": ""},
        {"rule": "rss", "outcome": "failed", "detail": "512 MiB, allowed 200 MiB"},
    ]
    document = {"result": "rolled_back", "serving": "cd" * 32, "detail": "", "findings": findings}

    with pytest.raises(BarNotMetError, match=r"\(rss: 512 MiB, allowed 200 MiB\); cdcdcdcdcdcd serves on"):
        read_verdict(msgspec.json.encode(document).decode(), "", 1, "kitchen")


def test_installer_that_was_not_even_started_is_no_verdict() -> None:
    with pytest.raises(BoardError, match="ended with 1: runuser: abort"):
        read_verdict("", "runuser: abort\n", 1, "kitchen")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (1, BarNotMetError, "does not take it: it is in quarantine"),
        (2, UsageError, "does not take it: it is in quarantine"),
        (3, BoardError, "ended with 3: it is in quarantine"),
    ],
)
def test_refusal_before_a_trial_is_told(code: int, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        read_verdict("", "note\nerror: it is in quarantine\n hint: --again\n", code, "kitchen")


# --------------------------------------------------------------------------------------------------------------- others
def test_unit_is_the_shipped_one_on_a_real_board(repository: Path) -> None:
    shipped = (repository / "devices/edgekit-agent.service").read_text("utf-8")

    assert unit_text(Layout()) == shipped
    assert "ExecStart=/x/opt/edgekit/venv/bin/edgekit agent run --config /x/etc/edgekit/agent.toml" in unit_text(
        Layout(prefix="/x")
    )


def test_several_go_on_when_one_fails_and_no_more_than_allowed_at_once() -> None:
    import asyncio

    working = most = 0

    async def work(number: int) -> int:
        nonlocal working, most
        working += 1
        most = max(most, working)
        for _ in range(5):
            await asyncio.sleep(0)
        working -= 1
        if number == 3:
            raise BoardError("gone")
        return number * 10

    ended = asyncio.run(for_each(range(8), work, at_once=3))

    assert [one.result for one in ended] == [0, 10, 20, None, 40, 50, 60, 70]
    assert [str(one.error) for one in ended if one.error] == ["gone"]
    assert most == 3
