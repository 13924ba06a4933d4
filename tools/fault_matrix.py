"""Cut the power, or break the disk, at every system call of an installation, and see what serves afterwards.

Power cut: SIGKILL just before the Nth write, sync, rename, symlink, unlink, mkdir or open that touches the state
folder, for every N. Disk: ENOSPC (once, or from there on), EIO and EROFS there. After each point the board recovers,
and must serve the old or the new release, right to the hash of the unpacked model, with no file left that belongs to
nothing. Besides, the undisturbed logs are searched for renames of unsynced data and for success that is told too early.

In most scenarios the trial is a recorded one, told again (the gate judges it anew each time); in `upgrade_tried` it is
a process of its own. What a killed process does not lose is the page cache: that is what the lint is for.

    python tools/fault_matrix.py --quick
"""

from __future__ import annotations

import collections
import shutil
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarking import Figure, arguments, machine_figures, note, print_document
from edgekit.agent.install.disk import ReleaseStore
from edgekit.agent.install.installer import RECORD, Installer, InstallReport, InstallRequest
from edgekit.agent.install.machine import Job
from edgekit.agent.install.messages import TrialReport, TrialSettings
from edgekit.agent.install.probation import MAX_DEATHS
from edgekit.agent.install.record import Record
from edgekit.agent.install.supervising import run_trial
from edgekit.bundle.compatibility import DeviceFacts
from edgekit.bundle.reading import open_bundle
from fault_cases import SUCCESS, Aftermath, Fault, Point, Scenario, canned, hit, trace
from install_bundles import write_tiny_bundle
from syscall_log import NAMES, SYNCS, Call, lint, touching

NUM_QUICK = 24
FACTS = DeviceFacts(board="host_cpu")
SETTINGS = TrialSettings(soak_s=0.1, num_queries=64)
REQUEST = InstallRequest(trial=SETTINGS)
_MAX_SHOWN = 20
_BOOT = "the same boot"


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What the scenarios are made of.

    Args:
        folder: Where everything lies.
        bundles: Releases 1 to 3.
        digests: Theirs.
        report: A trial of release 3 that passed.
    """

    folder: Path
    bundles: tuple[Path, ...]
    digests: tuple[str, ...]
    report: TrialReport


def prepare(folder: Path) -> Stage:
    """Make three releases, and try the last of them for real."""
    bundles = tuple(write_tiny_bundle(folder / "bundles", release) for release in (1, 2, 3))
    store = ReleaseStore(folder / "tried")
    bundle = open_bundle(bundles[2])
    report = run_trial(store.stage(bundle), bundle.manifest, store.trial_dir, SETTINGS)
    return Stage(
        folder=folder, bundles=bundles, digests=tuple(open_bundle(path).digest for path in bundles), report=report
    )


def make_scenarios(stage: Stage) -> list[Scenario]:
    """Everything that is interrupted."""
    one, two, three = stage.digests
    passing, failing = canned(stage.report), canned(msgspec.structs.replace(stage.report, exit_code=-11))
    old = _template(stage, "old", 2)
    bundle = stage.bundles[2]

    def install(state: Path, try_out=passing):  # noqa: ANN001, ANN202 - a scenario's act
        return Installer(state, try_out=try_out, facts=FACTS).install(bundle, REQUEST)

    return [
        Scenario(name="upgrade", template=old, act=install, allowed=frozenset((two, three)), wanted=three),
        Scenario(
            name="refused",
            template=old,
            act=lambda state: install(state, failing),
            allowed=frozenset((two,)),
            wanted=None,
        ),
        Scenario(
            name="first",
            template=_template(stage, "none", 0),
            act=install,
            allowed=frozenset((None, three)),
            wanted=three,
        ),
        Scenario(
            name="rollback",
            template=old,
            act=lambda state: Installer(state, facts=FACTS).rollback(),
            allowed=frozenset((one, two)),
            wanted=one,
        ),
        *_recoveries(stage),
        Scenario(
            name="upgrade_tried",
            template=old,
            act=lambda state: install(state, run_trial),
            allowed=frozenset((two, three)),
            wanted=three,
        ),
    ]


def _recoveries(stage: Stage) -> list[Scenario]:
    """What a start finds, and settles."""
    one, two, three = stage.digests

    def recover(state: Path) -> InstallReport:
        return Installer(state, facts=FACTS).recover()

    def begin_life(state: Path) -> InstallReport:
        return Installer(state, facts=FACTS, boot=lambda: _BOOT).begin_life()

    dying = _template(stage, "dying", 2)  # as often as a release may bring agents down: the next start goes back
    for _ in range(MAX_DEATHS):
        begin_life(dying)
    committed, trial = (_interrupted(stage, name) for name in ("committed", "trial"))
    both = frozenset((one, two))
    return [
        Scenario(name="recover_committed", template=committed, act=recover, allowed=frozenset((three,)), wanted=three),
        Scenario(name="recover_trial", template=trial, act=recover, allowed=frozenset((two,)), wanted=two),
        Scenario(name="recover_dying", template=dying, act=begin_life, allowed=both, wanted=one),
    ]


def points_of(scenario: Scenario, calls: list[Call]) -> list[Point]:
    """Every place where a scenario can be hit, and how."""
    return [
        Point(scenario=scenario.name, call=call.name, number=call.number, fault=fault)
        for call in calls
        for fault in faults_of(call)
    ]


def faults_of(call: Call) -> tuple[Fault, ...]:
    """What can happen at a call."""
    if call.name in SYNCS:
        return ("KILL", "EIO")
    if call.name.startswith(("unlink", "rmdir")):
        return ("KILL", "EIO", "EROFS")
    if call.name in NAMES or call.name == "openat":
        return ("KILL", "ENOSPC", "EIO", "EROFS")
    return ("KILL", "ENOSPC", "EIO", "FULL")


def spread(points: list[Point], num: int) -> list[Point]:
    """So many of the points, evenly, with every fault among them."""
    by_fault = sorted(points, key=lambda point: point.fault)  # stable: the order within a fault stays
    return [by_fault[index * len(by_fault) // num] for index in range(num)] if len(points) > num else points


def summarize(found: list[Aftermath], lints: dict[str, list[str]], seconds: float) -> dict[str, Figure]:
    """One flat document."""
    bad = [one for one in found if one.trouble]
    by_fault = collections.Counter(one.point.fault for one in found)
    by_scenario = collections.Counter(one.point.scenario for one in found)
    return {
        "num_points": len(found),
        "num_bad_states": len(bad),
        "num_leaked_files": sum(one.num_leaked_files for one in found),
        "num_leaked_processes": sum(one.num_leaked_processes for one in found),
        "num_false_successes": sum(one.is_false_success for one in found),
        "num_defects": sum(one.told.startswith("DEFECT") for one in found),
        "num_not_hit": sum(not one.was_hit for one in found),
        "num_told_success": sum(one.told.startswith(SUCCESS) for one in found),
        "recovery_max_s": round(max((one.recovery_s for one in found), default=0.0), 3),
        "num_unsynced_renames": sum("renamed" in line for lines in lints.values() for line in lines),
        "num_early_successes": sum("success" in line for lines in lints.values() for line in lines),
        **{f"num_points_{fault.lower()}": count for fault, count in sorted(by_fault.items())},
        **{f"num_points_{name}": count for name, count in sorted(by_scenario.items())},
        "seconds": round(seconds, 1),
        **machine_figures(),
    }


def main(argv: list[str] | None = None) -> None:
    """Run the matrix and print one JSON document; exit code 1 when anything is wrong."""
    parser = arguments(__doc__)
    parser.add_argument("--tried", type=int, default=12, help="points of the scenario whose trial is a real process")
    options = parser.parse_args(argv)
    if shutil.which("strace") is None:
        raise SystemExit("strace is not installed (apt-get install strace)")
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgekit-faults-") as place:
        folder = Path(place).resolve()
        stage = prepare(folder)
        scenarios = {one.name: one for one in make_scenarios(stage)}
        planned, lints = _plan(scenarios, folder, is_quick=options.quick, num_tried=options.tried)
        found = [_hit(scenarios, point, folder, index, len(planned)) for index, point in enumerate(planned)]
    for line in [*_complaints(found), *(f"{name}: {line}" for name, lines in lints.items() for line in lines)]:
        note(line)
    figures = summarize(found, lints, time.monotonic() - started_s)
    print_document(figures)
    bars = ("bad_states", "leaked_files", "leaked_processes", "false_successes", "defects", "unsynced_renames")
    if any(figures[f"num_{bar}"] for bar in (*bars, "early_successes")):
        raise SystemExit(1)


def _plan(
    scenarios: dict[str, Scenario], folder: Path, *, is_quick: bool, num_tried: int
) -> tuple[list[Point], dict[str, list[str]]]:
    """Where to hit, from the undisturbed logs, and what their lint found."""
    cheap: list[Point] = []
    tried: list[Point] = []
    lints: dict[str, list[str]] = {}
    for scenario in scenarios.values():
        calls, state, existing = trace(scenario, folder)
        lints[scenario.name] = lint(calls, state, SUCCESS, existing)
        points = points_of(scenario, touching(calls, state))
        note(f"{scenario.name}: {len(points)} points")
        if scenario.name == "upgrade_tried":
            tried = points
        else:
            cheap += points
    return (spread(cheap, NUM_QUICK - 2) + spread(tried, 2) if is_quick else cheap + spread(tried, num_tried)), lints


def _hit(scenarios: dict[str, Scenario], point: Point, folder: Path, index: int, num: int) -> Aftermath:
    if index % 50 == 0:
        note(f"point {index} of {num}")
    return hit(scenarios[point.scenario], point, folder)


def _complaints(found: list[Aftermath]) -> list[str]:
    lines = []
    for one in found:
        where = f"{one.point.scenario} {one.point.call} {one.point.number} {one.point.fault}"
        if one.trouble or one.num_leaked_files or one.is_false_success or one.num_leaked_processes:
            lines.append(f"{where}: {one.trouble or 'leak or false success'} (told: {one.told})")
        elif not one.was_hit:
            lines.append(f"{where}: not hit (told: {one.told})")
        elif one.told.startswith("DEFECT"):
            lines.append(f"{where}: {one.told}")
    return lines[:_MAX_SHOWN]


def _template(stage: Stage, name: str, num_installed: int) -> Path:
    """A state folder with so many releases installed one after the other."""
    state = stage.folder / name
    installer = Installer(state, try_out=canned(stage.report), facts=FACTS)
    if not num_installed:
        state.mkdir()
    for bundle in stage.bundles[:num_installed]:
        report = installer.install(bundle, REQUEST)
        if report.result != "committed":
            raise SystemExit(f"{bundle} cannot be installed: {report.detail}")
    return state


def _interrupted(stage: Stage, state_name: str) -> Path:
    """A state folder as a power cut leaves it: staged and tried, or committed and no link changed yet."""
    state = _template(stage, state_name, 2)
    store = ReleaseStore(state)
    bundle = open_bundle(stage.bundles[2])
    store.stage(bundle)
    links = store.links()
    job = Job(
        digest=bundle.digest,
        name=bundle.manifest.name,
        release=bundle.manifest.release,
        base=links.current,
        base_previous=links.previous,
    )
    record = Record(state / RECORD)
    try:
        job = record.move(record.move(job, "stage"), "try")
        if state_name == "committed":
            record.move(job, "pass")
    finally:
        record.close()
    return state


if __name__ == "__main__":
    main()
