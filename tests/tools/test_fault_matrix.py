"""The matrix finds what it looks for: planted mistakes are seen, and a few real points are hit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import fault_matrix
from edgekit.agent.install import disk, record
from fault_cases import Aftermath, Point, hit, leaks, trace
from fault_matrix import FACTS, main, make_scenarios, points_of, prepare, spread, summarize
from syscall_log import lint, read_log, touching

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

GOOD = """\
openat(AT_FDCWD</x>, "/s/releases/.new/a", O_WRONLY|O_CREAT|O_EXCL, 0644) = 3</s/releases/.new/a>
write(3</s/releases/.new/a>, "abc"..., 3) = 3
fsync(3</s/releases/.new/a>) = 0
fsync(4</s/releases/.new>) = 0
rename("/s/releases/.new", "/s/releases/d") = 0
fsync(4</s/releases>) = 0
symlink("releases/d", "/s/.current.new") = 0
rename("/s/.current.new", "/s/current") = 0
fsync(3</s>) = 0
write(5<pipe:[1]>, "succeeded: committed", 20) = 20
"""


def found(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "log").write_text(text)
    return lint(read_log(tmp_path / "log"), Path("/s"), "succeeded:", ["/s", "/s/releases", "/s/releases/.new"])


def test_lint_finds_nothing_in_a_good_log(tmp_path: Path) -> None:
    assert found(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("fsync(3</s/releases/.new/a>) = 0\n", "/s/releases/.new is renamed before /s/releases/.new/a is synced"),
        ("fsync(4</s/releases/.new>) = 0\n", "/s/releases/.new is renamed before /s/releases/.new is synced"),
        ("fsync(4</s/releases>) = 0\n", "success is told before /s/releases is synced"),
        ("fsync(3</s>) = 0\n", "success is told before /s is synced"),
    ],
)
def test_lint_finds_every_sync_that_is_missing(tmp_path: Path, line: str, complaint: str) -> None:
    assert found(tmp_path, GOOD.replace(line, "")) == [complaint]
    failed = line.replace("= 0", "= -1 EIO (Input/output error)")
    assert found(tmp_path, GOOD.replace(line, failed)) == [complaint]


def test_log_is_read_with_the_numbers_that_strace_counts(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        'write(1<pipe:[7]>, "x", 1) = 1\n'
        'write(3</s/a>, "/s/not a path", 1) = 1\n'
        'unlinkat(4</s/old>, "b", 0) = 0\n'
        'write(3</s/a>, "y", 1 <unfinished ...>\n'
        "+++ killed by SIGKILL +++\n"
    )
    calls = touching(read_log(tmp_path / "log"), Path("/s"))
    assert [(call.name, call.number, call.paths, call.is_done) for call in calls] == [
        ("write", 2, ("/s/a",), True),
        ("unlinkat", 1, ("/s/old/b",), True),
        ("write", 3, ("/s/a",), False),
    ]


def test_spread_is_even_and_knows_every_fault() -> None:
    points = [Point(scenario="s", call="write", number=n, fault=f) for n in range(50) for f in ("KILL", "EIO")]  # type: ignore[arg-type]
    chosen = spread(points, 10)
    assert len(chosen) == len({(one.number, one.fault) for one in chosen}) == 10
    assert {one.fault for one in chosen} == {"KILL", "EIO"}
    assert spread(points, 1000) == points


def test_summary_counts_what_is_bad() -> None:
    point = Point(scenario="upgrade", call="write", number=1, fault="KILL")
    good = Aftermath(
        point=point, was_hit=True, told="succeeded: committed", trouble="", num_leaked_files=0,
        num_leaked_processes=0, is_false_success=False, recovery_s=0.1,
    )  # fmt: skip
    bad = Aftermath(
        point=point, was_hit=False, told="DEFECT", trouble="nothing serves", num_leaked_files=3,
        num_leaked_processes=1, is_false_success=True, recovery_s=0.2,
    )  # fmt: skip
    figures = summarize([good, bad], {"upgrade": ["a is renamed before b is synced"]}, 1.0)
    assert [figures[f"num_{name}"] for name in ("points", "bad_states", "leaked_files", "false_successes")] == [
        2, 1, 3, 1,
    ]  # fmt: skip
    assert [figures[f"num_{name}"] for name in ("defects", "not_hit", "unsynced_renames", "early_successes")] == [
        1, 1, 1, 0,
    ]  # fmt: skip


@needs_strace
def test_undisturbed_log_is_clean_and_planted_mistakes_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = make_scenarios(prepare(tmp_path))[0]
    calls, state, existing = trace(upgrade, tmp_path)
    assert len(points_of(upgrade, touching(calls, state))) > 300
    assert lint(calls, state, "succeeded:", existing) == []
    assert leaks(state) == []

    monkeypatch.setattr(disk, "sync_folder", lambda _: None)
    complaints = lint(*trace(upgrade, tmp_path)[:2], "succeeded:", existing)
    assert any("is renamed before" in line for line in complaints)
    assert any(f"success is told before {state}/releases is synced" in line for line in complaints)


@needs_strace
def test_installer_that_swaps_in_place_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_place(self: disk.ReleaseStore, name: str, digest: str | None) -> None:
        path = self.state_dir / name
        path.unlink(missing_ok=True)
        if digest is not None:
            path.symlink_to(f"releases/{digest}")

    scenarios = {one.name: one for one in make_scenarios(prepare(tmp_path))}
    rollback = scenarios["rollback"]
    monkeypatch.setattr(disk.ReleaseStore, "_point", in_place)
    calls, state, _ = trace(rollback, tmp_path)
    symlink = next(call for call in touching(calls, state) if call.name == "symlink")
    point = Point(scenario="rollback", call="symlink", number=symlink.number, fault="KILL")
    monkeypatch.setattr(fault_matrix.Installer, "recover", lambda _: pytest.fail("no recovery in this test"))
    monkeypatch.setattr("fault_cases._look", lambda state, _: "" if (state / "current").exists() else "nothing serves")
    assert hit(rollback, point, tmp_path).trouble == "nothing serves"


@needs_strace
def test_killed_in_every_sync_of_a_rollback_the_board_serves_one_of_the_two(tmp_path: Path) -> None:
    rollback = next(one for one in make_scenarios(prepare(tmp_path)) if one.name == "rollback")
    calls, state, _ = trace(rollback, tmp_path)
    points = [one for one in points_of(rollback, touching(calls, state)) if one.call == "fsync"]
    for point in spread(points, 12):
        after = hit(rollback, point, tmp_path)
        assert (after.was_hit, after.trouble, after.num_leaked_files, after.is_false_success) == (True, "", 0, False)
    assert FACTS.board == "host_cpu"
    assert record.sync_folder is disk.sync_folder


@needs_strace
@pytest.mark.slow
def test_quick_matrix_finds_nothing_bad(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["num_points"] >= 20
    assert [figures[f"num_{name}"] for name in ("bad_states", "leaked_files", "not_hit", "false_successes")] == [0] * 4
