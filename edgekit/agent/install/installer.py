"""The installer: a bundle onto this board, or back, with every step written down before it is taken."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from edgekit.agent.facts import read_facts
from edgekit.agent.install.admission import Remembered, check_board, check_remembered
from edgekit.agent.install.disk import ReleaseStore
from edgekit.agent.install.gate import Finding, Verdict, judge
from edgekit.agent.install.lock import install_lock
from edgekit.agent.install.machine import RESUMING, Job, Links, wanted_links
from edgekit.agent.install.messages import TrialReport, TrialSettings
from edgekit.agent.install.probation import PROBATION_S, read_boot_id, start_event
from edgekit.agent.install.record import DamagedRecordError, Record, move_aside
from edgekit.agent.install.serving import find_agent
from edgekit.agent.install.supervising import run_trial
from edgekit.bundle.compatibility import DeviceFacts
from edgekit.bundle.manifest import Manifest
from edgekit.bundle.reading import Bundle, open_bundle
from edgekit.core.errors import EdgekitError, OutputError, UsageError

_logger = logging.getLogger(__name__)

RECORD = "install.sqlite"

Result: TypeAlias = Literal["committed", "unchanged", "rolled_back", "failed"]

Activate: TypeAlias = Callable[[str | None], str]
"""Tells the agent that serves which digest `current` names now. Returns why it will not have it; "" when it has it,
or when there is no agent to tell."""


class TryOut(Protocol):
    """Tries a staged release; `run_trial` is the real one."""

    def __call__(self, folder: Path, manifest: Manifest, work_dir: Path, settings: TrialSettings) -> TrialReport:
        """Try it. Arguments and errors as `run_trial`."""
        ...


class InstallRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to install.

    Args:
        trial: How the model is tried.
        again: Try what is in quarantine once more.
        downgrade: Take an older release, or another one of the same number.
        any_board: Take a bundle that is for other boards, or wants more than is there.
    """

    trial: TrialSettings = TrialSettings()
    again: bool = False
    downgrade: bool = False
    any_board: bool = False


class InstallReport(msgspec.Struct, frozen=True, kw_only=True):
    """How an installation ended.

    Args:
        result: `unchanged`: it serves already. `failed`: it could not be tried, which says nothing about it.
        digest: Of the release that it was about; None when there was none.
        name: Of it.
        release: Its counter.
        serving: Digest that `current` names now; None for none.
        previous: Digest that `previous` names now.
        detail: Why, with numbers; "" when all went well.
        findings: Every rule of the gate; empty when there was no trial.
        seconds: From the bundle in hand to the end.
    """

    result: Result
    digest: str | None
    name: str = ""
    release: int = 0
    serving: str | None = None
    previous: str | None = None
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0


def _tell_nobody(digest: str | None) -> str:
    del digest
    return ""


class Installer:
    """Installs on one board. Any number may exist; a lock lets one of them work at a time.

    Args:
        state_dir: Folder with `releases/`, `current`, `previous` and the record.
        try_out: Tries a staged release.
        activate: Tells the agent that serves.
        facts: About this machine; None to look each time.
        clock: Seconds since 1970.
        boot: Tells this boot of the board from others.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        try_out: TryOut = run_trial,
        activate: Activate = _tell_nobody,
        facts: DeviceFacts | None = None,
        clock: Callable[[], float] = time.time,
        boot: Callable[[], str] = read_boot_id,
    ) -> None:
        self.state_dir = state_dir
        self._try_out = try_out
        self._activate = activate
        self._facts = facts
        self._clock = clock
        self._boot = boot

    def install(self, path: Path, request: InstallRequest) -> InstallReport:
        """Check, stage, try and commit a bundle; whatever goes wrong, what served before serves on.

        Args:
            path: `.ekb` file, or bundle folder.
            request: How.

        Returns:
            How it ended. `committed` only when everything is on the disk and the agent has been told.

        Raises:
            UsageError, IntegrityError, DataError: The bundle was refused before anything was written.
            BarNotMetError: It is in quarantine.
            InstallBusyError: Somebody else installs.
            OutputError: The disk does not take it; the next `recover` settles what is left.
        """
        started_s = time.monotonic()
        with self._opened() as (store, record):
            _settle(store, record)
            bundle = open_bundle(path)
            links = store.links()
            if bundle.digest == links.current and store.is_whole(bundle.digest):
                report = _report("unchanged", _job_for(bundle, links), store)
            else:
                self._admit(bundle, record, request)
                report = self._stage_and_try(bundle, (store, record), request)
        return msgspec.structs.replace(report, seconds=time.monotonic() - started_s)

    def rollback(self, reason: str = "asked for") -> InstallReport:
        """Go back to the previous release. The one that served is not taken again by itself.

        Raises:
            UsageError: There is none, or it is damaged.
            InstallBusyError, OutputError: As `install`.
        """
        started_s = time.monotonic()
        with self._opened() as (store, record):
            _settle(store, record)
            links = store.links()
            if not store.is_whole(links.previous):
                raise UsageError(
                    "there is no previous release to go back to" if links.previous is None else "it is damaged",
                    hint="edgekit agent install BUNDLE installs another one",
                )
            report = self._go_back(store, record, links, reason)
        return msgspec.structs.replace(report, seconds=time.monotonic() - started_s)

    def recover(self) -> InstallReport:
        """Settle what an interrupted installation left, and see that what serves is whole. Idempotent.

        To be called before the bundle is loaded. An agent that is already serving is not told.

        Returns:
            `unchanged` when there was nothing to do; otherwise what became of the interrupted job.

        Raises:
            InstallBusyError, OutputError: As `install`.
        """
        started_s = time.monotonic()
        with self._opened() as (store, record):
            report = self._recover(store, record)
        return msgspec.structs.replace(report, seconds=time.monotonic() - started_s)

    def begin_life(self) -> InstallReport:
        """As `recover`, for an agent that starts. A release that has brought agents down too often goes back.

        Raises:
            InstallBusyError, OutputError: As `install`.
        """
        started_s = time.monotonic()
        with self._opened() as (store, record):
            report = self._recover(store, record)
            known, boot = record.probation(), self._boot()
            links = store.links()
            if known is not None and known.digest == links.current:
                lived = record.live(known.digest, start_event(known, boot), boot)
                if lived is not None and lived.is_lost and store.is_whole(links.previous):
                    reason = (
                        f"the agent died {lived.num_deaths} times with it"
                        f" before it had served for {PROBATION_S:g} s without a break"
                    )
                    report = self._go_back(store, record, links, reason, tell=False)
        return msgspec.structs.replace(report, seconds=time.monotonic() - started_s)

    def end_life(self) -> None:
        """Write down that an agent ends in good order. Idempotent. Raises InstallBusyError, OutputError."""
        with self._opened() as (_, record):
            known = record.probation()
            if known is not None and known.state == "living":
                record.live(known.digest, "end")

    def prove(self, digest: str) -> None:
        """Write down that an agent has lived long enough with a release. Raises InstallBusyError, OutputError."""
        with self._opened() as (_, record):
            known = record.probation()
            if known is not None and known.state == "living":
                record.live(digest, "prove")

    def _recover(self, store: ReleaseStore, record: Record) -> InstallReport:
        before = record.job()
        after = _settle(store, record)
        links = store.links()
        if links.current is not None and not store.is_whole(links.current) and store.is_whole(links.previous):
            return self._go_back(store, record, links, "its files are damaged", tell=False)
        return _report(_result_of(before), after, store)

    def _admit(self, bundle: Bundle, record: Record, request: InstallRequest) -> None:
        if request.again:
            record.release(bundle.digest)
        remembered = Remembered(
            counter=record.counter(bundle.manifest.name),
            quarantined=record.quarantined(),
            num_attempts=record.num_attempts(bundle.digest),
        )
        check_remembered(bundle.manifest, bundle.digest, remembered, downgrade=request.downgrade)
        facts = self._facts or read_facts(self.state_dir)
        check_board(bundle.manifest, facts, any_board=request.any_board or request.trial.model.any_board)

    def _stage_and_try(
        self, bundle: Bundle, place: tuple[ReleaseStore, Record], request: InstallRequest
    ) -> InstallReport:
        store, record = place
        folder = store.stage(bundle)
        job = record.move(_job_for(bundle, store.links()), "stage")
        verdict = Verdict(findings=())
        try:
            job = record.move(job, "try")
            report = self._try_out(folder, bundle.manifest, store.trial_dir, request.trial)
            verdict = judge(bundle.manifest, bundle.labels, request.trial, report)
            if verdict.has_passed:
                job = record.move(job, "pass")
            else:
                job = record.move(job, "abandon" if verdict.is_untold else "refuse", verdict.reason)
        except (EdgekitError, KeyboardInterrupt) as error:
            if job.state in ("staged", "trial"):  # nothing is decided yet: it may be put aside
                with contextlib.suppress(EdgekitError):
                    _finish(store, record, record.move(job, "abandon", str(error) or "interrupted"))
            raise
        if job.state == "committed":
            job = self._hand_over(store, record, job)
        ended = job
        _finish(store, record, job)
        if ended.state == "committed" and find_agent(self.state_dir) is not None:
            with contextlib.suppress(OutputError):  # a death less is counted then; it serves all the same
                record.live(bundle.digest, "take", self._boot())
        results: dict[str, Result] = {"committed": "committed", "rolled_back": "rolled_back"}
        return msgspec.structs.replace(
            _report(results.get(ended.state, "failed"), ended, store), findings=verdict.findings
        )

    def _hand_over(self, store: ReleaseStore, record: Record, job: Job) -> Job:
        """Let the new release serve; back, when the agent will not have it."""
        _point(store, job)
        refusal = self._activate(job.digest)
        if not refusal:
            return job
        job = record.move(job, "refuse", f"the agent that serves refused it: {refusal}")
        _point(store, job)
        self._activate(job.base)
        return job

    def _go_back(
        self, store: ReleaseStore, record: Record, links: Links, reason: str, *, tell: bool = True
    ) -> InstallReport:
        name, release = _name_of(store, links.current)
        job = Job(digest=links.current, name=name, release=release, base=links.previous)
        job = record.move(job, "revert", reason)
        _point(store, job)
        refusal = self._activate(job.base) if tell else ""
        _finish(store, record, job)
        report = _report("rolled_back", job, store)
        return msgspec.structs.replace(report, detail=f"{reason}; {refusal}") if refusal else report

    @contextlib.contextmanager
    def _opened(self) -> Generator[tuple[ReleaseStore, Record], None, None]:
        with install_lock(self.state_dir):
            store = ReleaseStore(self.state_dir)
            record = self._open_record()
            try:
                yield store, record
            except DamagedRecordError as error:
                raise OutputError(str(error), hint="edgekit agent recover begins a new record") from error
            finally:
                record.close()

    def _open_record(self) -> Record:
        path = self.state_dir / RECORD
        try:
            return Record(path, clock=self._clock)
        except DamagedRecordError as error:
            _logger.warning("%s; it is kept as %s", error, move_aside(path))
        try:
            return Record(path, clock=self._clock)
        except DamagedRecordError as error:
            raise OutputError(str(error)) from error


def _settle(store: ReleaseStore, record: Record) -> Job:
    """Bring whatever job there is to its end, and remove what belongs to nothing."""
    job = record.job()
    if job.state in ("staged", "trial"):
        detail = f"interrupted in state {job.state}, attempt {job.num_attempts}"
        job = record.move(job, RESUMING[job.state], detail)
        _logger.warning("%s release %d: %s", job.name, job.release, detail)
    return _finish(store, record, job)


def _finish(store: ReleaseStore, record: Record, job: Job) -> Job:
    """Make everything as the job says, and end it. May be done any number of times."""
    _point(store, job)
    links = store.links()
    _adopt(store, record, links)
    store.clean(frozenset(digest for digest in (links.current, links.previous) if digest is not None))
    return job if job.state == "idle" else record.move(job, "finish", job.detail)


def _adopt(store: ReleaseStore, record: Record, links: Links) -> None:
    """Let the counter begin with what serves and was not installed here: it came on a card, or the record was lost."""
    name, release = _name_of(store, links.current)
    if links.current is None or release == 0:
        return
    known = record.counter(name)
    if known is None or known.release < release:
        record.adopt(links.current, name, release)


def _point(store: ReleaseStore, job: Job) -> None:
    links = wanted_links(job)
    if links is not None:
        store.point(links)


def _result_of(found: Job) -> Result:
    """What became of a job that was found in some state."""
    if found.state in ("idle", "committed"):
        return "unchanged" if found.state == "idle" else "committed"
    return "failed" if found.state in ("staged", "failed") else "rolled_back"


def _job_for(bundle: Bundle, links: Links) -> Job:
    return Job(
        digest=bundle.digest,
        name=bundle.manifest.name,
        release=bundle.manifest.release,
        base=links.current,
        base_previous=links.previous,
    )


def _name_of(store: ReleaseStore, digest: str | None) -> tuple[str, int]:
    """Name and counter of a release, as far as its manifest can be read."""
    if digest is None:
        return "", 0
    try:
        manifest = open_bundle(store.folder(digest)).manifest
    except EdgekitError:
        return "", 0
    return manifest.name, manifest.release


def _report(result: Result, job: Job, store: ReleaseStore) -> InstallReport:
    links = store.links()
    return InstallReport(
        result=result,
        digest=job.digest,
        name=job.name,
        release=job.release,
        serving=links.current,
        previous=links.previous,
        detail="" if result in ("committed", "unchanged") else job.detail,
    )
