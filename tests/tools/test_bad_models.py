"""Twenty bad models, and each is refused for its own reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bad_models import BUDGETS, FACTS, REQUEST, Outcome, main, make_bad_models, summarize, try_model
from edgekit.agent.install.installer import Installer, InstallRequest
from install_bundles import write_tiny_bundle
from installs import Trial


def test_there_are_twenty_and_what_needs_no_trial_is_refused_at_the_door(tmp_path: Path) -> None:
    models = make_bad_models(tmp_path / "models")
    assert len({one.name for one in models}) == 20
    state = tmp_path / "state"
    old = write_tiny_bundle(tmp_path / "models", 9, budgets=BUDGETS)
    assert Installer(state, try_out=Trial(), facts=FACTS).install(old, REQUEST).result == "committed"
    for name in ("other_architecture", "other_runtime", "no_room"):
        outcome = try_model(next(one for one in models if one.name == name), state)
        assert (outcome.how, outcome.is_right, outcome.is_back, outcome.is_false_success) == (
            "refused", True, True, False,
        )  # fmt: skip


def test_summary_counts_what_got_through() -> None:
    good = Outcome(
        name="a", how="rolled_back", detail="", is_false_success=False, is_right=True, is_back=True, verdict_s=0.1,
        seconds=1.0,
    )  # fmt: skip
    bad = Outcome(
        name="b", how="committed", detail="", is_false_success=True, is_right=False, is_back=False, verdict_s=0.3,
        seconds=2.0,
    )  # fmt: skip
    figures = summarize([good, bad], (1, 1), 3.0)
    assert (figures["num_models"], figures["num_models_rolled_back"], figures["num_false_successes"]) == (2, 1, 1)
    assert (figures["num_wrong_reasons"], figures["num_not_back"], figures["num_committed"]) == (1, 1, 1)
    assert InstallRequest(trial=REQUEST.trial).again is False


@pytest.mark.slow
def test_one_round_of_all_twenty(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick"])
    figures = json.loads(capsys.readouterr().out)
    assert (figures["num_models_rolled_back"], figures["num_trials"]) == (20, 20)
    assert (figures["num_false_successes"], figures["num_wrong_reasons"], figures["num_good_committed"]) == (0, 0, 1)
