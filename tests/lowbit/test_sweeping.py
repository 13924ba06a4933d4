"""Size against accuracy: what is measured, and on what."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.progress import Silent
from edgekit.core.recipe import QuantizeSection
from edgekit.core.report import ParetoPoint
from edgekit.lowbit.calibrating import run_calibration
from edgekit.lowbit.mixing import Mixed, mix
from edgekit.lowbit.rounder import Rounder
from edgekit.lowbit.sweeping import sweep_sizes
from lowbit_jobs import job_of

SECTION = QuantizeSection(scheme="static_wimixed_ai8", rounding="gptq", num_calibration=32, pareto=3)


def swept(work_dir: Path, *, labelled: bool) -> tuple[Rounder, Mixed, tuple[ParetoPoint, ...]]:
    job = job_of(work_dir, SECTION, labelled=labelled, max_drop=20.0)
    calibration = run_calibration(job.hub, job.calibration, SECTION, Silent())
    rounder = Rounder(job, job.hub, calibration, Silent())
    mixed = mix(rounder)
    return rounder, mixed, sweep_sizes(rounder, mixed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rounder, Mixed, tuple[ParetoPoint, ...]]:
    return swept(tmp_path_factory.mktemp("work"), labelled=True)


def test_float_eight_bits_and_the_choice_come_first(made: tuple[Rounder, Mixed, tuple[ParetoPoint, ...]]) -> None:
    rounder, mixed, points = made

    assert [point.kind for point in points[:3]] == ["float", "int8", "lowbit"]
    assert [point.is_chosen for point in points] == [False, False, True, *[False] * (len(points) - 3)]
    assert points[2].size_bytes == rounder.packed_bytes(mixed.model)
    assert 3 <= len(points) <= 6
    assert all(point.label for point in points)


def test_float_model_agrees_with_itself_and_is_right(made: tuple[Rounder, Mixed, tuple[ParetoPoint, ...]]) -> None:
    float_point, int8 = made[2][:2]

    assert (float_point.agreement, float_point.top1, float_point.grid_bits) == (1.0, 1.0, None)
    assert int8.grid_bits == 8.0
    assert int8.agreement >= 0.8
    assert int8.size_bytes < float_point.size_bytes


def test_all_points_are_measured_on_the_same_pictures(made: tuple[Rounder, Mixed, tuple[ParetoPoint, ...]]) -> None:
    points = made[2]

    assert {point.n for point in points} == {90}
    # Labels are what the float model answers: then being right and agreeing are the same.
    assert all(point.top1 == pytest.approx(point.agreement) for point in points)
    assert all(2.0 <= point.grid_bits <= 8.0 for point in points if point.grid_bits is not None)


def test_more_bits_are_larger(made: tuple[Rounder, Mixed, tuple[ParetoPoint, ...]]) -> None:
    others = sorted((point.grid_bits or 0.0, point.size_bytes) for point in made[2][2:])

    assert [size for _, size in others] == sorted(size for _, size in others)


def test_without_labels_there_is_agreement_only(tmp_path: Path) -> None:
    points = swept(tmp_path, labelled=False)[2]

    assert all(point.top1 is None for point in points)
    assert points[0].agreement == 1.0
