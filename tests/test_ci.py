""".ci/run and the Makefile, tried with stand-ins for what takes long."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAMS = ("bash", "dirname", "false", "make", "mktemp", "rm", "sh", "test", "true")
_CI_NEEDS = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").partition('needs="')[2].partition('"')[0]
NEEDED = tuple(
    line.partition(":")[0] for line in _CI_NEEDS.splitlines() if ": " in line and not line.startswith(("make:", " "))
)
"""Programs that the tests need: one per line of the list in .ci/run."""

STUB_MAKEFILE = """\
demo:
	@echo "demo in $(VENV)"
test:
	@test ! -e "$(VENV)" && echo "test in $(VENV)"
	@$(FAIL)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the real .ci/run and README, and a Makefile that does nothing."""
    folder = tmp_path / "checkout"
    for name in (".ci/run", "README.md", "tools/readme_blocks.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "Makefile").write_text(STUB_MAKEFILE, encoding="utf-8")
    return folder


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """All programs there are: those that .ci/run and the tests need, and an apt-get that takes notes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    write_program(folder / "python3", f'exec {sys.executable} "$@"')
    for name in NEEDED:
        write_program(folder / name, "exit 0")
    write_program(folder / "id", "echo 0")
    write_program(folder / "apt-get", f'echo "$@" >>{tmp_path}/apt.log')
    return folder


def write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def run_ci(checkout: Path, bin_dir: Path, *, fail: str = "true") -> subprocess.CompletedProcess[str]:
    scratch = checkout.parent / "scratch"
    scratch.mkdir()
    # .ci/run looks in /usr/sbin too; what lies there must not decide
    environ = {"PATH": str(bin_dir), "TMPDIR": str(scratch), "FAIL": fail, "HOME": str(checkout.parent)}
    command = ["bash", checkout / ".ci" / "run"]
    return subprocess.run(command, cwd=checkout.parent, env=environ, capture_output=True, text=True, check=False)


def test_ci_runs_readme_commands_in_a_new_environment_and_removes_it(checkout: Path, bin_dir: Path) -> None:
    done = run_ci(checkout, bin_dir)

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[0] == "$ make demo"
    assert lines[2] == "$ make test"
    folder = lines[3].removeprefix("test in ")
    assert folder.startswith(f"{checkout.parent}/scratch/edgekit-ci.")
    assert lines[1] == f"demo in {folder}"
    assert list((checkout.parent / "scratch").iterdir()) == []
    assert not (checkout.parent / "apt.log").exists()


def test_ci_fails_when_a_command_fails(checkout: Path, bin_dir: Path) -> None:
    assert run_ci(checkout, bin_dir, fail="false").returncode != 0


def test_ci_fails_when_readme_has_nothing_to_run(checkout: Path, bin_dir: Path) -> None:
    (checkout / "README.md").write_text("# edgekit\n", encoding="utf-8")

    done = run_ci(checkout, bin_dir)

    assert done.returncode == 1
    assert "no block marked" in done.stderr


def test_ci_installs_browser_when_missing_and_root(checkout: Path, bin_dir: Path) -> None:
    (bin_dir / "chromium").unlink()

    assert run_ci(checkout, bin_dir).returncode == 0

    calls = (checkout.parent / "apt.log").read_text(encoding="utf-8").splitlines()
    assert [call.split()[0] for call in calls] == ["update", "install"]
    assert "chromium" in calls[1].split()


def test_ci_leaves_system_alone_when_not_root(checkout: Path, bin_dir: Path) -> None:
    (bin_dir / "chromium").unlink()
    write_program(bin_dir / "id", "echo 1000")

    assert run_ci(checkout, bin_dir).returncode == 0
    assert not (checkout.parent / "apt.log").exists()


def test_make_env_is_instant_when_nothing_changed_and_repeats_when_pins_change(tmp_path: Path) -> None:
    log = tmp_path / "pip.log"
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    fake = tmp_path / "fake-python"
    # Called as `fake -m venv DIR` it puts itself there; called as `DIR/bin/python -m pip ...` it takes notes.
    write_program(
        fake, f'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp {fake} "$3/bin/python"; else echo "$@" >>{log}; fi'
    )

    def make_env() -> int:
        environ = {**os.environ, "MAKEFLAGS": ""}
        command = ["make", "env", f"PYTHON={fake}", "VENV=elsewhere"]
        subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True)
        return len(log.read_text(encoding="utf-8").splitlines())

    assert [make_env(), make_env()] == [1, 1]
    (installed,) = log.read_text(encoding="utf-8").splitlines()
    assert "-c constraints.txt" in installed
    newer = (tmp_path / "elsewhere" / ".edgekit-stamp").stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (newer, newer))
    assert make_env() == 2
