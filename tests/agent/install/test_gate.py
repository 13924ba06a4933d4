"""The gate passes what keeps every promise, and names the one that was broken, with numbers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import LABEL_NAMES, plain_manifest
from edgekit.agent.install.gate import is_too_slow, judge
from edgekit.agent.install.messages import Failed, FrameSettings, Killed, TrialReport, TrialSettings
from edgekit.bundle.manifest import Budgets
from edgekit.core.measurement import percentile_bound
from installs import measured

SETTINGS = TrialSettings(soak_s=1.0)
WATCHED = TrialSettings(soak_s=1.0, frames=FrameSettings(snapshot_url="http://127.0.0.1/snapshot.jpg", num=5))


def report(**changes: Any) -> TrialReport:
    told = {"labels": LABEL_NAMES, "lived_s": 1.5, **changes}
    return TrialReport(measured=measured(plain_manifest(), **told), stage="done", peak_rss_mib=60.0)


def test_model_that_keeps_every_promise_passes() -> None:
    verdict = judge(plain_manifest(), LABEL_NAMES, SETTINGS, report())
    assert verdict.has_passed
    assert verdict.reason == ""
    assert {one.rule for one in verdict.findings} == {
        "survives", "loads", "labels", "finite", "golden", "p90", "rss", "frames",
    }  # fmt: skip
    assert [one.rule for one in verdict.findings if one.outcome == "waived"] == ["frames"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lived_s": 0.5}, "survives: lived 0.5 s, 1 s wanted"),
        ({"input_shape": (8, 8, 1)}, "loads: .*the manifest says \\[4, 4, 1\\]"),
        ({"num_classes": 4}, "loads: .*4 classes; the manifest says .* 3 classes"),
        ({"labels": ("ant", "cat", "bee")}, "labels: "),
        ({"num_not_finite": 2}, "finite: 2 answers with NaN"),
        ({"num_golden": (1, 2)}, "golden: 1 of 2 golden pictures right at first, 2 at the end"),
        ({"num_golden": (2, 0)}, "golden: 2 of 2 golden pictures right at first, 0 at the end"),
        ({"query_ms": (41.0,) * 200}, "p90: 200 of 200 inferences over 40 ms"),
        ({"query_ms": (1.0,) * 63}, "p90: .*n = 63: p90 needs 64"),
        ({"query_ms": ()}, "p90: nothing was timed"),
        ({"peak_rss_mib": 201.0}, "rss: peak 201 MiB, allowed 200 MiB"),
    ],
)
def test_broken_promise_is_named_with_its_numbers(changes: dict[str, Any], reason: str) -> None:
    verdict = judge(plain_manifest(), LABEL_NAMES, SETTINGS, report(**changes))
    assert not verdict.has_passed
    assert not verdict.is_untold
    assert pytest.importorskip("re").match(reason, verdict.reason), verdict.reason


def test_memory_is_the_larger_of_what_was_told_and_what_was_seen() -> None:
    seen = msgspec.structs.replace(report(), peak_rss_mib=500.0)
    assert judge(plain_manifest(), LABEL_NAMES, SETTINGS, seen).reason == "rss: peak 500 MiB, allowed 200 MiB"


def test_manifest_without_budgets_sets_no_bar() -> None:
    manifest = msgspec.structs.replace(plain_manifest(), budgets=Budgets())
    slow = report(query_ms=(900.0,) * 10, peak_rss_mib=9000.0)
    verdict = judge(manifest, LABEL_NAMES, SETTINGS, slow)
    assert verdict.has_passed
    assert "the manifest sets no bar" in next(one.detail for one in verdict.findings if one.rule == "p90")


def test_missing_frames_are_not_the_models_fault() -> None:
    verdict = judge(plain_manifest(), LABEL_NAMES, WATCHED, report(num_frames=2, frames_detail="refused"))
    assert not verdict.has_passed
    assert verdict.is_untold
    assert verdict.reason == "frames: 2 of 5 live frames answered: refused"
    assert judge(plain_manifest(), LABEL_NAMES, WATCHED, report(num_frames=5)).has_passed


def test_fault_of_the_model_outweighs_missing_frames() -> None:
    verdict = judge(plain_manifest(), LABEL_NAMES, WATCHED, report(num_frames=2, num_not_finite=1))
    assert not verdict.is_untold


@pytest.mark.parametrize(
    ("killed", "exit_code", "words"),
    [
        (None, -11, "crashed while timing, after 2.0 s: SIGSEGV"),
        (None, 3, "ended while timing, after 2.0 s with exit code 3 and no result"),
        (None, 0, "ended while timing, after 2.0 s with exit code 0 and no result"),
        ("silent", -9, "hung while timing, after 2.0 s: no sign of life for 60 s"),
        ("late", -9, "not done while timing, after 2.0 s: 300 s allowed"),
        ("too_large", -9, "ended while timing, after 2.0 s: 777 MiB resident"),
    ],
)
def test_trial_without_an_end_fails(killed: Killed | None, exit_code: int, words: str) -> None:
    ended = TrialReport(stage="timing", killed=killed, exit_code=exit_code, seconds=2.0, peak_rss_mib=777.0)
    verdict = judge(plain_manifest(), LABEL_NAMES, SETTINGS, ended)
    assert (verdict.has_passed, verdict.is_untold, verdict.reason) == (False, False, f"survives: {words}")


@pytest.mark.parametrize(("killed", "exit_code"), [("late", -9), (None, -11), (None, 1)])
def test_good_numbers_do_not_help_a_trial_that_died_after_them(killed: Killed | None, exit_code: int) -> None:
    died = msgspec.structs.replace(report(), killed=killed, exit_code=exit_code)
    assert not judge(plain_manifest(), LABEL_NAMES, SETTINGS, died).has_passed


def test_trial_that_gives_up_says_whose_fault_it_is() -> None:
    for kind, is_untold in (("environment", True), ("loads", False), ("golden", False)):
        told = TrialReport(failed=Failed(kind=kind, stage="loading", message="why"))  # type: ignore[arg-type]
        verdict = judge(plain_manifest(), LABEL_NAMES, SETTINGS, told)
        assert (verdict.has_passed, verdict.is_untold, verdict.reason) == (False, is_untold, f"{kind}: why")


@given(st.lists(st.sampled_from((1.0, 9.0)), min_size=64, max_size=300))
def test_giving_up_early_agrees_with_the_bound_over_all_samples(query_ms: list[float]) -> None:
    bound = percentile_bound(query_ms, 0.90)
    assert bound is not None
    assert is_too_slow(query_ms, 5.0, len(query_ms)) == (bound > 5.0)
