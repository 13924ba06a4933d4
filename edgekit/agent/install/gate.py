"""Whether a model may take over: pure rules over what its trial told and what its manifest promises."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from edgekit.agent.install.messages import Measured, TrialReport, TrialSettings
from edgekit.bundle.manifest import Manifest
from edgekit.core.measurement import median, num_discardable, percentile_bound

Rule: TypeAlias = Literal[
    "survives", "compatible", "loads", "labels", "finite", "golden", "p90", "rss", "frames", "environment"
]
Outcome: TypeAlias = Literal["passed", "failed", "waived", "untold"]
"""`untold`: the environment did not let it be told."""

P90 = 0.90
NUM_FOR_P90 = 64
"""Fewest samples that tell a 90th percentile at 99 % confidence."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, and how it went.

    Args:
        rule: Which.
        outcome: How.
        detail: Measured and allowed, with units.
    """

    rule: Rule
    outcome: Outcome
    detail: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says.

    Args:
        findings: Of every rule that could be judged.
    """

    findings: tuple[Finding, ...]

    @property
    def has_passed(self) -> bool:
        """Whether the model may serve."""
        return bool(self.findings) and all(one.outcome in ("passed", "waived") for one in self.findings)

    @property
    def is_untold(self) -> bool:
        """Whether it may not, but not by any fault of its own."""
        outcomes = {one.outcome for one in self.findings}
        return "failed" not in outcomes and "untold" in outcomes

    @property
    def reason(self) -> str:
        """What did not pass, in one line; "" when all did."""
        return "; ".join(f"{one.rule}: {one.detail}" for one in self.findings if one.outcome in ("failed", "untold"))


def judge(manifest: Manifest, labels: tuple[str, ...], settings: TrialSettings, report: TrialReport) -> Verdict:
    """Judge a trial.

    Args:
        manifest: Of the bundle that was tried.
        labels: Of the bundle.
        settings: How it was tried.
        report: What came of it.
    """
    measured, failed = report.measured, report.failed
    if failed is not None and report.killed is None:
        if failed.kind == "environment":
            return Verdict(findings=(_finding("environment", "untold", failed.message),))
        return Verdict(findings=(_finding(failed.kind, "failed", failed.message),))
    if measured is None or report.exit_code != 0 or report.killed is not None:
        return Verdict(findings=(_finding("survives", "failed", _how_it_ended(settings, report)),))
    return Verdict(
        findings=(
            _judge_life(settings, measured),
            _judge_shape(manifest, measured),
            _judge_labels(labels, measured),
            _judge_finite(measured),
            _judge_golden(manifest, measured),
            _judge_p90(manifest.budgets.p90_ms, settings.num_queries, measured.query_ms),
            _judge_rss(manifest.budgets.rss_mib, max(report.peak_rss_mib, measured.peak_rss_mib)),
            _judge_frames(settings, measured),
        )
    )


def is_too_slow(query_ms: Sequence[float], allowed_ms: float, num_planned: int) -> bool:
    """Whether so many of the timed inferences were over the bar that no others can make up for it.

    The bound of `percentile_bound` is the t-th largest sample; it is over the bar exactly when t samples are.

    >>> is_too_slow([9.0] * 12, 1.0, 200)
    True
    >>> is_too_slow([9.0, 0.5, 0.5], 1.0, 200)
    False
    """
    num_over = sum(one > allowed_ms for one in query_ms)
    return num_over >= max(1, num_discardable(num_planned, P90))


def _judge_life(settings: TrialSettings, measured: Measured) -> Finding:
    told = f"lived {measured.lived_s:.1f} s, {settings.soak_s:g} s wanted"
    return _judged("survives", measured.lived_s >= settings.soak_s, told)


def _judge_shape(manifest: Manifest, measured: Measured) -> Finding:
    model = manifest.model
    expected = ((*model.input_size, model.num_channels), model.num_classes)
    found = (measured.input_shape, measured.num_classes)
    told = f"{measured.runtime}, in {measured.load_ms:.0f} ms; input {list(found[0])}, {found[1]} classes"
    if found != expected:
        told += f"; the manifest says {list(expected[0])}, {expected[1]} classes"
    return _judged("loads", found == expected, told)


def _judge_labels(labels: tuple[str, ...], measured: Measured) -> Finding:
    return _judged("labels", measured.labels == labels, f"{len(measured.labels)} labels, {len(labels)} in the bundle")


def _judge_finite(measured: Measured) -> Finding:
    return _judged("finite", measured.num_not_finite == 0, f"{measured.num_not_finite} answers with NaN or infinity")


def _judge_golden(manifest: Manifest, measured: Measured) -> Finding:
    num = len(manifest.golden.top1)
    before, after = measured.num_golden
    told = f"{before} of {num} golden pictures right at first, {after} at the end"
    return _judged("golden", before == num and after == num, told)


def _judge_p90(allowed_ms: float | None, num_planned: int, query_ms: Sequence[float]) -> Finding:
    num = len(query_ms)
    middle = f"p50 {median(query_ms):.3g} ms, n = {num}" if num else "nothing was timed"
    bound = percentile_bound(query_ms, P90)
    if allowed_ms is None:
        told = middle if bound is None else f"p90 {bound:.3g} ms, {middle}"
        return _finding("p90", "passed", f"{told}; the manifest sets no bar")
    if is_too_slow(query_ms, allowed_ms, max(num_planned, num)):
        num_over = sum(one > allowed_ms for one in query_ms)
        return _finding("p90", "failed", f"{num_over} of {num} inferences over {allowed_ms:g} ms; {middle}")
    if bound is None:
        return _finding("p90", "failed", f"{middle}: p90 needs {NUM_FOR_P90} inferences; allowed {allowed_ms:g} ms")
    return _judged("p90", bound <= allowed_ms, f"p90 {bound:.3g} ms, allowed {allowed_ms:g} ms; {middle}")


def _judge_rss(allowed_mib: float | None, peak_mib: float) -> Finding:
    if allowed_mib is None:
        return _finding("rss", "passed", f"peak {peak_mib:.0f} MiB; the manifest sets no bar")
    return _judged("rss", peak_mib <= allowed_mib, f"peak {peak_mib:.0f} MiB, allowed {allowed_mib:g} MiB")


def _judge_frames(settings: TrialSettings, measured: Measured) -> Finding:
    wanted = settings.frames.num
    if settings.frames.is_waived:
        return _finding("frames", "waived", "no live frames, as was asked for (--no-camera)")
    told = f"{measured.num_frames} of {wanted} live frames answered"
    if measured.num_frames >= wanted:
        return _finding("frames", "passed", told)
    return _finding("frames", "untold", f"{told}: {measured.frames_detail or 'no more came'}")


def _how_it_ended(settings: TrialSettings, report: TrialReport) -> str:
    where = f"while {report.stage}, after {report.seconds:.1f} s"
    if report.killed == "silent":
        told = f"hung {where}: no sign of life for {settings.silence_s:g} s"
    elif report.killed == "late":
        told = f"not done {where}: {settings.deadline_s:g} s allowed"
    elif report.killed == "too_large":
        told = f"ended {where}: {report.peak_rss_mib:.0f} MiB resident"
    elif report.exit_code < 0:
        told = f"crashed {where}: {_signal_name(-report.exit_code)}"
    else:
        told = f"ended {where} with exit code {report.exit_code} and no result"
    return f"{told} ({report.last_words})" if report.last_words else told


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _judged(rule: Rule, has_passed: bool, detail: str) -> Finding:
    return _finding(rule, "passed" if has_passed else "failed", detail)


def _finding(rule: Rule, outcome: Outcome, detail: str) -> Finding:
    return Finding(rule=rule, outcome=outcome, detail=detail)
