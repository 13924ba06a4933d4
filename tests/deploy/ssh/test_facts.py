"""What a board tells about itself, by the real script on this machine and by made-up answers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.core.errors import BoardError
from edgekit.deploy.ssh.facts import FACTS_SCRIPT, parse_facts

ANSWER = """format\t1
privilege\tfree
system\tLinux
machine\taarch64
bits\t32
host\tkitchen
clock\t1700000000
os\tRaspbian GNU/Linux 12 (bookworm)
model\tRaspberry Pi 4 Model B Rev 1.4
memory_kib\t1000000
glibc\tglibc 2.36
library\tlibstdc++.so.6
systemd\tyes
python\t/usr/bin/python3.11 3.11 venv 1.24.2
python\t/opt/py/bin/python3.13 3.13 - -
environment\tvenv-1
program\tyes
current\treleases/abc
manifest\tabc
config\tW3dlYl0KcG9ydCA9IDkwMDAK
UnitFileState\tenabled
ActiveState\tactive
end\tyes
"""


def test_answer_is_read() -> None:
    found = parse_facts(f"Welcome to the kitchen!\n{ANSWER}")

    assert found.architecture == "armv7l"  # a 32-bit system on a 64-bit kernel
    assert [(one.version, one.has_venv, one.numpy) for one in found.pythons] == [
        ((3, 13), False, None),
        ((3, 11), True, "1.24.2"),
    ]
    assert found.glibc == (2, 36)
    assert found.config == "[web]\nport = 9000\n"
    assert (found.environment, found.digest, found.is_enabled, found.active) == ("venv-1", "abc", True, "active")
    assert found.free_opt_mib is None


@pytest.mark.parametrize("answer", ["", "command not found", ANSWER.replace("end\tyes\n", ""), ANSWER[:200]])
def test_answer_that_is_none_or_cut_is_refused(answer: str) -> None:
    with pytest.raises(BoardError, match="did not tell about itself"):
        parse_facts(answer)


def test_environment_without_its_program_is_none() -> None:
    assert parse_facts(ANSWER.replace("program\tyes\n", "")).environment is None


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox sh"])
def test_script_tells_about_this_machine(shell: str, tmp_path: Path) -> None:
    words = shell.split()
    if subprocess.run(["which", words[0]], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"no {words[0]}")
    command = [*words, "-c", FACTS_SCRIPT.read_text("utf-8"), "facts", str(tmp_path), "nobody-of-that-name", "none"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}

    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    found = parse_facts(done.stdout)
    assert found.architecture == platform.machine()
    assert found.hostname == platform.node()
    assert sys.version_info[:2] in [one.version for one in found.pythons]
    assert found.memory_mib is not None
    assert found.free_state_mib is not None
    assert not found.has_user
    assert not found.has_systemd
    assert (found.environment, found.digest, found.config) == (None, None, None)


def test_script_needs_no_program_that_a_minimal_system_lacks(tmp_path: Path) -> None:
    """No awk, for one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    essential = [
        "sh", "base64", "cut", "date", "df", "getconf", "grep", "id", "readlink", "sha256sum", "tail", "tr", "uname",
    ]  # fmt: skip
    for name in essential:
        found = shutil.which(name, path="/usr/bin:/bin")
        assert found is not None
        (programs / name).symlink_to(found)
    command = ["/bin/sh", "-c", FACTS_SCRIPT.read_text("utf-8"), "facts", str(tmp_path), "nobody-of-that-name", "none"]

    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": str(programs)})

    found_facts = parse_facts(done.stdout)
    assert done.stderr == ""
    assert found_facts.memory_mib is not None
    assert found_facts.free_memory_mib is not None
    assert found_facts.free_opt_mib is not None
    assert found_facts.glibc is not None
    assert found_facts.pythons == ()
