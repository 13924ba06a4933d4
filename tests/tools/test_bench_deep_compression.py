from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bench_deep_compression
from bench_deep_compression import (
    Subject,
    answers_of,
    find_original,
    judge,
    main,
    pack_graph,
    score,
)
from edgekit.core.artifact import ModelCard
from edgekit.core.errors import DataError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.evaluate.metrics import agreement
from edgekit.export.torch_graph import trace

NUM_PICTURES = 4


@pytest.fixture
def subject() -> Subject:
    """A small network, with as many crops of each picture as the real one has."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 5),
    ).eval()
    generator = np.random.default_rng(0)
    spec = PreprocessSpec(input_size=(9, 9), mean=(0.5,) * 3, std=(0.2,) * 3)
    return Subject(
        module=module,
        graph=trace(module, (3, 9, 9), name="small"),
        card=ModelCard(model="small", scheme="float", labels=(), preprocess=spec),
        original_bytes=1000,
        tuning=generator.integers(0, 256, (32, 9, 9, 3), dtype=np.uint8),
        test=generator.integers(0, 256, (4 * NUM_PICTURES, 9, 9, 3), dtype=np.uint8),
        labels=np.tile(np.arange(NUM_PICTURES), 4),
        num_pictures=NUM_PICTURES,
    )


def test_main_measures_what_comes_out_of_the_packed_file(
    subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_deep_compression, "find_original", lambda: tmp_path)
    monkeypatch.setattr(bench_deep_compression, "open_subject", lambda *_: subject)
    main(["--quick", "--part", "squeezenet", "--rate-weights", "1e-9", "1e-3", "--keep", str(tmp_path)])
    figures = json.loads(capsys.readouterr().out)
    fine, coarse = "squeezenet_1p0em09", "squeezenet_1p0em03"
    assert figures[f"{fine}_ekz_bytes"] == (tmp_path / f"{fine}.ekz").stat().st_size
    assert figures[f"{coarse}_entropy_bytes"] < figures[f"{fine}_entropy_bytes"]
    exact = answers_of(tmp_path / "original.ekz", subject)
    expected = agreement(answers_of(tmp_path / f"{coarse}.ekz", subject), exact).top1
    assert figures[f"{coarse}_agreement_percent"] == round(100 * expected, 2)
    assert figures["bar_420000_bytes_best_agreement_percent"] == figures[f"{fine}_agreement_percent"]


def test_score_counts_intervals_over_pictures(subject: Subject) -> None:
    exact = np.eye(5, dtype=np.float32)[subject.labels]
    wrong_once = exact.copy()
    wrong_once[-1] = exact[0]
    figures = score("m", wrong_once, exact, subject)
    assert figures["m_agreement_percent"] == 93.75
    assert figures["m_centre_agreement_percent"] == 100
    assert figures["m_top1_lost_points"] == 6.25
    low = figures["m_agreement_low_percent"]
    assert isinstance(low, float)
    assert low < 60  # sixteen answers would give 71.7


def test_judge_asks_for_bytes_agreement_and_accuracy() -> None:
    figures = judge({"a": (410_000, 93.0, 0.5), "b": (379_000, 88.0, 1.6), "c": (370_000, 86.9, 0.0)})
    assert figures["bar_420000_bytes_is_met"] is True
    assert figures["bar_420000_bytes_best_agreement_percent"] == 93.0
    assert figures["bar_380000_bytes_is_met"] is False
    assert figures["bar_380000_bytes_best_agreement_percent"] == 88.0


def test_judge_without_a_file_that_is_small_enough() -> None:
    figures = judge({"a": (430_000, 99.0, 0.0)})
    assert figures["bar_420000_bytes_best_agreement_percent"] is None
    assert figures["bar_420000_bytes_is_met"] is False


def test_pack_graph_leaves_no_labels_in_the_file(subject: Subject, tmp_path: Path) -> None:
    size = pack_graph(subject.graph, subject.card, tmp_path / "a.ekz")
    assert size == (tmp_path / "a.ekz").stat().st_size
    assert answers_of(tmp_path / "a.ekz", subject).shape == (16, 5)


def test_a_missing_original_is_an_error_that_says_where_was_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path)):
        find_original()
    monkeypatch.delenv("EDGEKIT_DATA")
    with pytest.raises(DataError, match="EDGEKIT_DATA is not set"):
        find_original()
