from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarking import (
    Sample,
    interleave,
    machine_figures,
    median_sample,
    print_document,
    quotient,
    run_child,
    time_figures,
)


def sample(value: float) -> Sample:
    return Sample(wall_s=value, cpu_s=value / 2)


def test_interleave_takes_turns_in_alternating_order() -> None:
    turns: list[str] = []

    def contestant(name: str) -> Sample:
        turns.append(name)
        return sample(len(turns))

    samples = interleave({"a": lambda: contestant("a"), "b": lambda: contestant("b")}, 3)

    assert "".join(turns) == "abbaab"
    assert [taken.wall_s for taken in samples["b"]] == [2, 3, 6]


def test_interleave_asks_a_missing_contestant_once() -> None:
    asked: list[int] = []

    samples = interleave({"here": lambda: sample(1), "missing": lambda: asked.append(1)}, 4)

    assert len(asked) == 1
    assert samples["missing"] == ()
    assert len(samples["here"]) == 4


@given(values=st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_median_sample_is_within_the_samples(values: list[float]) -> None:
    middle = median_sample([sample(value) for value in values])

    assert middle is not None
    assert min(values) <= middle.wall_s <= max(values)
    if len(values) % 2:
        assert middle.wall_s in values


def test_figures_are_none_without_samples() -> None:
    assert time_figures("peer", ()) == {"peer_wall_s": None, "peer_cpu_s": None}
    assert quotient(1.0, None) is None
    assert quotient(None, 2.0) is None
    assert quotient(1.0, 2.0) == 0.5


def test_run_child_gives_output_exit_code_and_memory() -> None:
    code = (
        "import sys; block = bytearray(64 << 20); block[::4096] = b'x' * len(block[::4096]); print('done'); sys.exit(3)"
    )

    usage = run_child([sys.executable, "-c", code])

    assert usage.stdout == b"done\n"
    assert usage.exit_code == 3
    assert usage.peak_rss_mib >= 64
    assert usage.sample.cpu_s > 0


def test_run_child_gives_environment_to_the_child() -> None:
    code = "import os; print(os.environ['EDGEKIT_TEST'])"

    assert run_child([sys.executable, "-c", code], environment={"EDGEKIT_TEST": "here"}).stdout == b"here\n"


def test_print_document_is_flat_json(capsys: pytest.CaptureFixture[str]) -> None:
    figures = machine_figures() | {"a_wall_s": 1.5, "b_wall_s": None, "c_passed": True}

    print_document(figures)

    assert json.loads(capsys.readouterr().out) == figures


@pytest.mark.parametrize("figures", [{"Time": 1.0}, {"a b": 1.0}, {"": 1.0}, {"a_s": [1.0]}, {"a_s": {"b": 1}}])
def test_print_document_refuses_what_is_not_flat(figures: dict) -> None:
    with pytest.raises(ValueError, match="flat document"):
        print_document(figures)
