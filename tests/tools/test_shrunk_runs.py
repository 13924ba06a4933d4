"""Figures of pruned, shared and coded runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import shrunk_runs
from edgekit.core.errors import UsageError
from edgekit.core.recipe import DataSection, ModelSection, PruneSection, Recipe, ShareSection
from edgekit.core.recipe_files import dump_recipe
from edgekit.core.report import Report
from edgekit.report.files import read_report, write_report
from edgekit.shrink.request import is_asked
from shrunk_runs import make_run, measure_runs, report_figures

GOLDEN = Path(__file__).parent.parent / "golden" / "report_v1_shrunk.json"


@pytest.fixture
def report() -> Report:
    return read_report(GOLDEN)


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = tmp_path / "lenet5-mnist-static_wi8_ai8.toml"
    recipe = Recipe(
        model=ModelSection(name="lenet5", width=None), data=DataSection(name="mnist"), prune=PruneSection(sparsity=0.9)
    )
    path.write_text(dump_recipe(recipe))
    return path


def test_figures_set_before_beside_after(report: Report) -> None:
    figures = report_figures("net", report)

    assert figures["net.ratio"] == round(3_920_000 / 661_220, 3)
    assert (figures["net.macs_before"], figures["net.macs_after"]) == (24_000_000, 12_345_678)
    assert figures["net.latency_ratio"] == 0.5
    assert figures["net.top1_float_before"] == 0.939
    assert figures["net.classic_bytes"] == 8000


def test_figures_of_a_plain_run_are_refused(report: Report) -> None:
    with pytest.raises(UsageError, match="nothing was pruned"):
        report_figures("net", msgspec.structs.replace(report, shrink=None))


def test_only_recipes_that_shrink_are_taken() -> None:
    plain = Recipe(model=ModelSection(name="m"), data=DataSection(name="d"))

    assert not is_asked(plain)
    assert is_asked(msgspec.structs.replace(plain, share=ShareSection(fc_bits=5)))
    assert is_asked(msgspec.structs.replace(plain, prune=PruneSection(channels=0.1)))


def test_run_is_trained_and_shrunk_once(
    recipe_path: Path, tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def run(*words: str) -> None:
        commands.append(words)
        folder = Path(words[words.index("--out") + 1])
        folder.mkdir(parents=True)
        if words[0] == "train":
            (folder / "checkpoint.json").write_text("{}")
        else:
            write_report(report, folder)

    monkeypatch.setattr(shrunk_runs, "run", run)
    first = measure_runs([recipe_path], tmp_path / "out", quick=True)
    again = make_run(recipe_path, tmp_path / "out", quick=True)

    assert [words[0] for words in commands] == ["train", "compress"]
    assert all("--resume" in words for words in commands)
    assert "train.epochs=1" in commands[0]
    assert commands[1][1] == str(tmp_path / "out" / "lenet5-mnist")
    assert first["lenet5_mnist.ekz_bytes"] == 661_220
    assert again == report
