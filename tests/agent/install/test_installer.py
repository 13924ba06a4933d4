"""What serves is the old release or the new one, whole, whatever happens in between; and it is said which and why."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgekit.agent.install import disk
from edgekit.agent.install.installer import RECORD, Installer, InstallRequest
from edgekit.agent.install.lock import InstallBusyError, install_lock
from edgekit.agent.install.machine import Job
from edgekit.agent.install.messages import TrialReport
from edgekit.agent.install.overview import read_overview
from edgekit.agent.install.record import Record
from edgekit.bundle.compatibility import DeviceFacts
from edgekit.bundle.manifest import Manifest
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import BarNotMetError, IntegrityError, OutputError, UsageError
from install_bundles import rewrite_bundle
from installs import REQUEST, Releases, Told, Trial, crashing, installer, listing, without_runtime

RELEASE_FILES = 5


def serving(state: Path) -> str:
    """The digest that serves; every byte of it is checked."""
    bundle = open_bundle(state / "current")
    assert (state / "current").readlink().name == bundle.digest
    return bundle.digest


def installed(state: Path, releases: Releases, num: int) -> None:
    for path in releases.paths[:num]:
        assert installer(state).install(path, REQUEST).result == "committed"


def test_first_release_serves_after_its_trial(state: Path, releases: Releases) -> None:
    trial, told = Trial(), Told()
    report = installer(state, trial, told).install(releases.paths[0], REQUEST)

    assert (report.result, report.serving, report.previous) == ("committed", releases.digests[0], None)
    assert report.detail == ""
    assert len(report.findings) == 8
    assert serving(state) == releases.digests[0]
    assert trial.folders == [state / "releases" / releases.digests[0]]
    assert told.digests == [releases.digests[0]]
    assert len(listing(state)) == RELEASE_FILES + 1


def test_next_release_serves_and_only_the_one_before_stays(state: Path, releases: Releases) -> None:
    installed(state, releases, 3)
    assert serving(state) == releases.digests[2]
    overview = read_overview(state)
    assert [(one.role, one.digest) for one in overview.releases] == [
        ("current", releases.digests[2]),
        ("previous", releases.digests[1]),
    ]
    assert overview.job.state == "idle"
    assert len(listing(state)) == 2 * RELEASE_FILES + 2


def test_release_that_serves_already_is_not_tried_again(state: Path, releases: Releases) -> None:
    installed(state, releases, 1)
    trial = Trial()
    report = installer(state, trial).install(releases.paths[0], REQUEST)
    assert (report.result, report.serving) == ("unchanged", releases.digests[0])
    assert trial.folders == []


def test_model_that_fails_the_gate_is_taken_back_and_quarantined(state: Path, releases: Releases) -> None:
    installed(state, releases, 1)
    before = listing(state)
    report = installer(state, crashing()).install(releases.paths[1], REQUEST)

    assert report.result == "rolled_back"
    assert "SIGSEGV" in report.detail
    assert serving(state) == releases.digests[0]
    assert listing(state) == before
    (kept,) = read_overview(state).quarantine
    assert (kept.digest, kept.release) == (releases.digests[1], 2)
    assert "SIGSEGV" in kept.reason


def test_quarantined_release_is_tried_again_only_when_asked(state: Path, releases: Releases) -> None:
    installer(state, crashing()).install(releases.paths[0], REQUEST)
    trial = Trial()
    with pytest.raises(BarNotMetError, match=r"in quarantine: survives: crashed while loading.*SIGSEGV"):
        installer(state, trial).install(releases.paths[0], REQUEST)
    assert trial.folders == []
    again = msgspec.structs.replace(REQUEST, again=True)
    assert installer(state, trial).install(releases.paths[0], again).result == "committed"
    assert read_overview(state).quarantine == ()


def test_trial_that_could_not_happen_says_nothing_about_the_model(state: Path, releases: Releases) -> None:
    installed(state, releases, 1)
    report = installer(state, without_runtime()).install(releases.paths[1], REQUEST)
    assert (report.result, report.detail) == ("failed", "environment: no runtime here")
    assert read_overview(state).quarantine == ()
    assert installer(state).install(releases.paths[1], REQUEST).result == "committed"


def test_agent_that_refuses_gets_the_old_release_back(state: Path, releases: Releases) -> None:
    installed(state, releases, 2)
    told = Told(refused=releases.digests[2])
    report = installer(state, told=told).install(releases.paths[2], REQUEST)

    assert report.result == "rolled_back"
    assert report.detail == "the agent that serves refused it: golden picture 3 is wrong here"
    assert told.digests == [releases.digests[2], releases.digests[1]]
    assert (report.serving, report.previous) == (releases.digests[1], releases.digests[0])
    assert serving(state) == releases.digests[1]
    assert open_bundle(state / "previous").digest == releases.digests[0]


def test_lower_release_counter_is_refused_unless_asked_for(state: Path, releases: Releases) -> None:
    installed(state, releases, 2)
    with pytest.raises(UsageError, match="older than release 2, which served here"):
        installer(state).install(releases.paths[0], REQUEST)
    assert serving(state) == releases.digests[1]
    downgrade = msgspec.structs.replace(REQUEST, downgrade=True)
    assert installer(state).install(releases.paths[0], downgrade).serving == releases.digests[0]
    assert installer(state).install(releases.paths[1], REQUEST).serving == releases.digests[1]


def test_same_release_counter_with_other_content_is_refused(state: Path, releases: Releases, tmp_path: Path) -> None:
    installed(state, releases, 2)
    other = rewrite_bundle(
        releases.paths[1], tmp_path / "x.ekb", lambda manifest: msgspec.structs.replace(manifest, made_by="another")
    )
    with pytest.raises(UsageError, match="has other content than the release 2"):
        installer(state).install(other, REQUEST)
    assert serving(state) == releases.digests[1]


def test_bundle_made_on_the_spot_has_no_counter(state: Path, releases: Releases, tmp_path: Path) -> None:
    installed(state, releases, 2)
    unreleased = rewrite_bundle(
        releases.paths[0], tmp_path / "x.ekb", lambda manifest: msgspec.structs.replace(manifest, release=0)
    )
    assert installer(state).install(unreleased, REQUEST).result == "committed"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (DeviceFacts(board="jetson_nano"), "it is for host_cpu; this is jetson_nano"),
        (DeviceFacts(board="host_cpu", free_ram_mib=20.0), "MiB of memory; free are 20 MiB"),
        (DeviceFacts(board="host_cpu", free_disk_mib=0.5), "MiB of disk"),
        (DeviceFacts(board="host_cpu", runtimes=()), "it needs litert 2.0"),
    ],
)
def test_wrong_board_is_refused_before_anything_is_written(
    state: Path, releases: Releases, facts: DeviceFacts, words: str
) -> None:
    installed(state, releases, 1)
    before, trial = listing(state), Trial()
    with pytest.raises(UsageError, match=words):
        Installer(state, try_out=trial, facts=facts).install(releases.paths[1], REQUEST)
    assert (listing(state), trial.folders) == (before, [])


def test_damaged_bundle_is_refused_before_anything_is_written(state: Path, releases: Releases, tmp_path: Path) -> None:
    installed(state, releases, 1)
    before = listing(state)
    content = bytearray(releases.paths[1].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bad.ekb").write_bytes(content)
    with pytest.raises(IntegrityError):
        installer(state).install(tmp_path / "bad.ekb", REQUEST)
    assert listing(state) == before


def test_second_installer_is_refused_while_one_is_at_work(state: Path, releases: Releases) -> None:
    with install_lock(state), pytest.raises(InstallBusyError, match="another installation is under way"):
        installer(state).install(releases.paths[0], REQUEST)
    assert installer(state).install(releases.paths[0], REQUEST).result == "committed"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OutputError("no process")])
def test_interrupted_trial_is_put_aside_in_good_order(state: Path, releases: Releases, error: BaseException) -> None:
    installed(state, releases, 1)
    before = listing(state)

    def interrupt(_: TrialReport) -> TrialReport:
        raise error

    with pytest.raises(type(error)):
        installer(state, Trial(interrupt)).install(releases.paths[1], REQUEST)
    assert listing(state) == before
    overview = read_overview(state)
    assert (overview.job.state, overview.quarantine) == ("idle", ())
    assert installer(state).install(releases.paths[1], REQUEST).result == "committed"


def test_rollback_goes_back_and_the_bad_one_stays_away(state: Path, releases: Releases) -> None:
    installed(state, releases, 2)
    told = Told()
    report = installer(state, told=told).rollback("cats are called dogs")

    assert (report.result, report.serving, report.previous) == ("rolled_back", releases.digests[0], None)
    assert told.digests == [releases.digests[0]]
    assert len(listing(state)) == RELEASE_FILES + 1
    with pytest.raises(BarNotMetError, match="cats are called dogs"):
        installer(state).install(releases.paths[1], REQUEST)
    with pytest.raises(UsageError, match="no previous release"):
        installer(state).rollback()
    assert serving(state) == releases.digests[0]


def found(state: Path, releases: Releases, *events: str) -> None:
    """Leave a job for release 2 as a power cut does, after some events."""
    store = disk.ReleaseStore(state)
    bundle = open_bundle(releases.paths[1])
    store.stage(bundle)
    links = store.links()
    job = Job(digest=bundle.digest, name="tiny", release=2, base=links.current, base_previous=links.previous)
    record = Record(state / RECORD)
    for event in events:
        job = record.move(job, event, event)  # type: ignore[arg-type]
    record.close()
    store.trial_dir.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("events", "result", "index"),
    [
        ((), "unchanged", 0),
        (("stage",), "failed", 0),
        (("stage", "try"), "rolled_back", 0),
        (("stage", "try", "refuse"), "rolled_back", 0),
        (("stage", "try", "abandon"), "failed", 0),
        (("stage", "try", "pass"), "committed", 1),
    ],
)
def test_recovery_ends_what_a_power_cut_interrupted(
    state: Path, releases: Releases, events: tuple[str, ...], result: str, index: int
) -> None:
    installed(state, releases, 1)
    found(state, releases, *events)

    assert installer(state).recover().result == result
    assert serving(state) == releases.digests[index]
    assert len(listing(state)) == (RELEASE_FILES + 1) * (index + 1)
    again = installer(state).recover()
    assert again.result == "unchanged"
    assert read_overview(state).job.state == "idle"


def test_second_attempt_goes_back(state: Path, releases: Releases) -> None:
    installed(state, releases, 1)
    found(state, releases, "stage", "try")
    trial = Trial()
    with pytest.raises(BarNotMetError, match="interrupted in state trial, attempt 1"):
        installer(state, trial).install(releases.paths[1], REQUEST)
    assert trial.folders == []
    assert serving(state) == releases.digests[0]


def test_damaged_release_gives_way_to_the_one_before(state: Path, releases: Releases) -> None:
    installed(state, releases, 2)
    (state / "current" / "model.ekz").write_bytes(b"rot")
    report = installer(state).recover()
    assert (report.result, report.detail) == ("rolled_back", "its files are damaged")
    assert serving(state) == releases.digests[0]


def test_lost_release_is_left_alone_when_there_is_nothing_to_go_back_to(state: Path, releases: Releases) -> None:
    installed(state, releases, 1)
    shutil.rmtree(state / "releases" / releases.digests[0])
    assert installer(state).recover().result == "unchanged"
    assert installer(state).install(releases.paths[0], REQUEST).result == "committed"
    assert serving(state) == releases.digests[0]


def test_damaged_record_is_kept_aside_and_the_release_serves_on(
    state: Path, releases: Releases, caplog: pytest.LogCaptureFixture
) -> None:
    installed(state, releases, 2)
    (state / RECORD).write_bytes(b"rot" * 5000)
    assert installer(state).recover().result == "unchanged"
    assert serving(state) == releases.digests[1]
    assert (state / "install.sqlite.damaged").read_bytes() == b"rot" * 5000
    assert "it is kept as" in caplog.text
    assert installer(state).install(releases.paths[2], REQUEST).result == "committed"


def test_swap_that_the_disk_refuses_is_made_up_for_by_the_next_start(
    state: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(state, releases, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", _refuse)
        with pytest.raises(OutputError, match="Read-only"):
            installer(state).install(releases.paths[1], REQUEST)
        assert serving(state) == releases.digests[0]
    assert installer(state).recover().result == "committed"
    assert serving(state) == releases.digests[1]


def _refuse(*_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_success_is_reported_after_the_folder_is_synced(
    state: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real: Callable[[Path], None] = disk.sync_folder

    def sync(folder: Path) -> None:
        real(folder)
        done.append(f"sync {folder.name} with current" if (state / "current").is_symlink() else f"sync {folder.name}")

    monkeypatch.setattr(disk, "sync_folder", sync)

    def tell(digest: str | None) -> str:
        done.append(f"tell {digest}")
        return ""

    Installer(state, try_out=Trial(), activate=tell, facts=DeviceFacts(board="host_cpu")).install(
        releases.paths[0], InstallRequest(trial=REQUEST.trial)
    )
    assert done.index("sync state with current") < done.index(f"tell {releases.digests[0]}")


def test_trial_sees_the_staged_release_not_the_bundle_that_came(state: Path, releases: Releases) -> None:
    seen: list[tuple[Path, Manifest]] = []

    class Looking(Trial):
        def __call__(self, folder: Path, manifest: Manifest, work_dir: Path, settings: object) -> TrialReport:
            seen.append((folder, open_bundle(folder).manifest))
            assert not (state / "current").is_symlink()
            return super().__call__(folder, manifest, work_dir, settings)  # type: ignore[arg-type]

    installer(state, Looking()).install(releases.paths[0], REQUEST)
    assert seen[0][0].parent == state / "releases"


def test_overview_of_nothing_is_empty(tmp_path: Path) -> None:
    overview = read_overview(tmp_path / "missing")
    assert (overview.releases, overview.job, overview.detail) == ((), Job(), "")
