"""What holds for every command: help, switches, exit codes, two lines for an error, streams that go away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from command_line import assert_fails, edgekit, start_process
from edgekit.cli.failures import DEFECT, INTERRUPTED
from edgekit.cli.main import app, take_global_switches
from edgekit.core.errors import BarNotMetError, DataError, OutputError

Install: TypeAlias = Callable[[BaseException], None]
VERBS = tuple(command.name for command in app.registered_commands if command.name)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make `edgekit doctor` raise what it is given."""

    def install(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("edgekit.core.environment.describe_environment", fail)

    return install


@pytest.mark.parametrize("verb", [*VERBS, "data", "data list", "data add", "data show"])
def test_help_tells_what_a_verb_takes(verb: str) -> None:
    outcome = edgekit(*verb.split(), "--help")

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Usage: edgekit {verb} ")
    assert edgekit(*verb.split(), "-h") == outcome


def test_help_lists_every_verb_of_the_design() -> None:
    page = edgekit("--help").out

    assert set(VERBS) == {
        "bench", "bundle", "classify", "compress", "doctor", "evaluate", "export", "flash", "import", "inspect", "pack",
        "embed", "explain", "publish", "report", "search", "train", "unpack", "verify", "zoo",
    }  # fmt: skip
    assert all(f"  {verb} " in page for verb in (*VERBS, "data"))


def test_no_command_shows_the_help_and_fails() -> None:
    outcome = edgekit()

    assert (outcome.code, outcome.out) == (2, "")
    assert "compress" in outcome.err


def test_version_is_the_packages() -> None:
    import edgekit as package

    assert edgekit("--version") == (0, f"edgekit {package.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compres", "mobilenet"], ["compres", "compress"]),
        (["compress", "mobilenet", "--bit", "8"], ["--bit", "--bits"]),
        (["bench"], ["file", "edgekit bench --help"]),
        (["bench", "x.onnx", "--threads", "0"], ["--threads", "1"]),
        (["compress", "mobilenet", "--input-size", "big"], ["--input-size", "integer"]),
        (["data", "lst"], ["lst", "list"]),
    ],
)
def test_wrong_usage_is_two_lines_that_name_the_remedy(arguments: list[str], words: list[str]) -> None:
    assert_fails(edgekit(*arguments), 2, *words)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (DataError("no picture", hint="add some"), 2, ["error: no picture", " hint: add some"]),
        (BarNotMetError("lost 3 points"), 1, ["error: lost 3 points"]),
        (OutputError("disk full\nreally"), 3, ["error: disk full really"]),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 3, None),
        (ImportError("libGL.so.1: cannot open shared object file", name="cv2"), 3, None),
        (MemoryError(), 3, None),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), 3, None),
        (PermissionError(13, "Permission denied", "/root/x"), 3, None),
        (KeyError("slip"), DEFECT, None),
    ],
)
def test_error_becomes_lines_and_its_exit_code(
    failing: Install, error: Exception, code: int, lines: list[str] | None
) -> None:
    failing(error)

    outcome = edgekit("doctor", "--json")

    assert_fails(outcome, code)
    assert "Traceback" not in outcome.err
    assert lines is None or outcome.err.splitlines() == lines


@pytest.mark.parametrize(("module", "extra"), [("torch", "host"), ("onnxruntime", "runtime"), ("cv2", "runtime")])
def test_missing_package_names_the_extra(failing: Install, module: str, extra: str) -> None:
    failing(ModuleNotFoundError(f"No module named {module!r}", name=module))

    assert_fails(edgekit("doctor"), 3, module, f"pip install edgekit[{extra}]")


@pytest.mark.parametrize("arguments", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback_before_or_after_the_verb(failing: Install, arguments: list[str]) -> None:
    failing(KeyError("slip"))

    outcome = edgekit(*arguments)

    assert outcome.code == DEFECT
    assert "Traceback" in outcome.err
    assert "KeyError: 'slip'" in outcome.err


def test_interrupt_is_130_and_one_line(failing: Install) -> None:
    failing(KeyboardInterrupt())

    outcome = edgekit("doctor")

    assert outcome == (INTERRUPTED, "", "interrupted; nothing half-written is left behind\n")


def test_quiet_prints_no_summary_but_errors(failing: Install) -> None:
    assert edgekit("--quiet", "doctor").out == ""
    failing(DataError("no picture"))
    assert edgekit("doctor", "--quiet").err == "error: no picture\n"


def test_switches_do_not_outlive_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DEBUG", "0")

    edgekit("--quiet", "--debug", "doctor")

    assert os.environ["EDGEKIT_DEBUG"] == "0"
    assert "EDGEKIT_QUIET" not in os.environ


def test_switches_behind_a_double_dash_are_arguments() -> None:
    assert take_global_switches(["classify", "--", "--quiet"]) == (["classify", "--", "--quiet"], frozenset())


def test_brackets_in_names_are_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "[red]model[/red].tflite"

    assert_fails(edgekit("bench", path), 2, str(path))


def test_closed_pipe_is_no_failure() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        child = start_process("doctor", stdout=write, stderr=subprocess.PIPE)
        _, err = child.communicate()
    finally:
        os.close(write)

    assert (child.returncode, err) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_stdout_is_exit_code_3() -> None:
    with Path("/dev/full").open("wb") as full:
        child = start_process("doctor", "--json", stdout=full, stderr=subprocess.PIPE)
        _, err = child.communicate()

    assert child.returncode == 3
    assert err.decode().splitlines()[0] == "error: No space left on device"
    assert len(err.decode().splitlines()) == 2


def test_closed_stdout_is_no_failure() -> None:
    command = f"{sys.executable} -m edgekit.cli.main doctor >&-"
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(["bash", "-c", command], cwd=repository, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


def test_narrow_encodings_escape_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("EDGEKIT_DATA", "/data/Größe")
    child = start_process("doctor", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.communicate()

    assert (child.returncode, err) == (0, b"")
    assert rb"Gr\xf6\xdfe" in out


def test_missing_torch_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; from edgekit.cli.main import main; sys.exit(main(['zoo']))"
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: this command needs torch, which is not installed",
        " hint: pip install edgekit[host]",
    ]


def test_package_runs_as_the_command_line() -> None:
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-m", "edgekit", "bench", "model.txt"]

    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
