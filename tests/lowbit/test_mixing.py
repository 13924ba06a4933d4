"""Bits of every layer from a budget, or from what may be lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import BarNotMetError, BudgetError
from edgekit.core.progress import Silent
from edgekit.core.recipe import QuantizeSection
from edgekit.lowbit.calibrating import run_calibration
from edgekit.lowbit.mixing import mix
from edgekit.lowbit.request import QuantizeJob
from edgekit.lowbit.rounder import Rounder, measured_drop
from lowbit_jobs import hub_of, job_of


def mixed_section(budget_kb: float | None = None, **options: Any) -> QuantizeSection:
    return QuantizeSection(
        scheme="static_wimixed_ai8", budget_kb=budget_kb, rounding="gptq", num_calibration=32, **options
    )


def rounder_of(job: QuantizeJob) -> Rounder:
    calibration = run_calibration(job.hub, job.calibration, job.recipe.quantize, Silent())
    return Rounder(job, job.hub, calibration, Silent())


@pytest.fixture(scope="module")
def widest(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes of the file with 8 bits everywhere."""
    rounder = rounder_of(job_of(tmp_path_factory.mktemp("work"), mixed_section()))
    layers = [layer.node.name for layer in rounder.start({}).plan.layers]
    return rounder.packed_bytes(rounder.round(dict.fromkeys(layers, 8))[0])


@pytest.mark.parametrize("share", [0.8, 0.9, 1.2])
def test_file_is_within_the_budget(tmp_path: Path, widest: int, share: float) -> None:
    budget = math.floor(share * widest)
    rounder = rounder_of(job_of(tmp_path, mixed_section(budget / 1000)))

    mixed = mix(rounder)

    assert rounder.packed_bytes(mixed.model) <= budget
    assert mixed.budget_bytes == budget
    assert mixed.drop is None
    assert set(mixed.bits) == {option.name for option in mixed.table.options}
    if share > 1:
        assert all(each == max(mixed.bits.values()) for each in mixed.bits.values())
    else:
        assert len(set(mixed.bits.values())) > 1
    for node in mixed.model.graph.nodes:
        if node.name in mixed.bits:
            assert mixed.model.constants[node.inputs[1]].params.num_bits == mixed.bits[node.name]


def test_larger_budget_is_no_larger_error(tmp_path: Path, widest: int) -> None:
    errors: list[float] = []
    for share in (0.8, 0.9):
        mixed = mix(rounder_of(job_of(tmp_path / str(share), mixed_section(share * widest / 1000))))
        candidates = {(each.name, one.num_bits): one.error for each in mixed.table.options for one in each.candidates}
        errors.append(sum(candidates[name, bits] for name, bits in mixed.bits.items()))
    assert errors[1] <= errors[0]


def test_unreachable_budget_names_a_size_that_is_met(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"a budget of 0.2 kB cannot be met") as caught:
        mix(rounder_of(job_of(tmp_path / "a", mixed_section(0.2))))
    assert caught.value.exit_code == 1

    rounder = rounder_of(job_of(tmp_path / "b", mixed_section(caught.value.nearest / 1000)))
    assert rounder.packed_bytes(mix(rounder).model) == caught.value.nearest


def test_largest_drop_is_held_on_pictures_that_did_not_calibrate(tmp_path: Path, widest: int) -> None:
    job = job_of(tmp_path, mixed_section(), num_pictures=160, max_drop=8.0)
    rounder = rounder_of(job)

    mixed = mix(rounder)

    assert mixed.drop is not None
    assert mixed.drop <= 8.0
    assert mixed.num_held_out == 160 - 32
    assert mixed.notes == ()
    assert rounder.packed_bytes(mixed.model) < widest


def test_stricter_drop_is_no_smaller_file(tmp_path: Path) -> None:
    sizes: list[float] = []
    for max_drop in (30.0, 3.0):
        mixed = mix(rounder_of(job_of(tmp_path / str(max_drop), mixed_section(), max_drop=max_drop)))
        sizes_of = {
            (each.name, one.num_bits): one.size_bytes for each in mixed.table.options for one in each.candidates
        }
        sizes.append(sum(sizes_of[name, bits] for name, bits in mixed.bits.items()))
    assert sizes[1] >= sizes[0]


def test_drop_that_cannot_be_held_is_a_missed_bar(tmp_path: Path) -> None:
    with pytest.raises(BarNotMetError, match="a drop of at most -1 points cannot be met") as caught:
        mix(rounder_of(job_of(tmp_path, mixed_section(), max_drop=-1.0)))
    assert caught.value.exit_code == 1


def test_few_pictures_and_none_with_labels_are_noted(tmp_path: Path) -> None:
    mixed = mix(rounder_of(job_of(tmp_path, mixed_section(), num_pictures=40, labelled=False, max_drop=50.0)))

    assert mixed.num_held_out == 32
    assert any("calibration pictures" in note for note in mixed.notes)
    assert any("no labels" in note for note in mixed.notes)


def test_labels_do_not_count_for_a_model_that_never_saw_any(tmp_path: Path) -> None:
    job = job_of(tmp_path, mixed_section(), hub=hub_of(trained=False))

    assert job.calibration.labels is not None
    assert rounder_of(job).labels(np.arange(4)) is None


def test_drop_is_in_points_of_right_answers_or_of_answers_that_changed() -> None:
    reference = np.eye(4, dtype=np.float32)
    worse = reference.copy()
    worse[0] = worse[1]
    labels = np.arange(4)

    assert measured_drop(worse, reference, labels) == pytest.approx(25.0)
    assert measured_drop(reference, worse, labels) == pytest.approx(-25.0)
    assert measured_drop(worse, reference, None) == pytest.approx(25.0)
    assert measured_drop(reference, reference, None) == 0.0
