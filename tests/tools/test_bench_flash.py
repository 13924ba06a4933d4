"""Gaps are told from what an agent's page said, however the machine behaved besides."""

from __future__ import annotations

from bench_flash import Exchange, Listener, gap_figures, longest_gap


class Heard(Listener):
    """What a page told: answers every 0.1 s, but for one gap at the change of models, and one long before it."""

    def __init__(self) -> None:
        steps = [number / 10 for number in range(200)]
        self.answers_s = [at for at in steps if not 3.05 < at < 5.05 and not 12.05 < at < 12.55]
        self.models = [(9.0, "old"), (12.0, "old"), (12.7, "new"), (13.7, "new")]


def test_gap_is_that_of_the_change_and_not_of_the_time_before() -> None:
    figures = gap_figures(Heard(), [Exchange(began_s=10.0, ended_s=15.0, num_bytes=7)])

    assert figures["serving_gap_max_s"] == figures["serving_gap_median_s"] == 0.6
    assert figures["calm_gap_max_s"] == 0.1
    assert (figures["num_exchanges"], figures["exchange_bytes"]) == (1, 7)


def test_gap_that_reaches_beyond_its_window_counts_in_full() -> None:
    assert longest_gap([0.0, 1.0, 4.0, 4.5], 2.0, 2.1) == 3.0
