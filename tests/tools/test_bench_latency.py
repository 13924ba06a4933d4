from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench_latency import MATCHES, Match, main, match_figures, write_ours
from contestants import random_contestant
from edgekit.models.architecture import BuildOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our four files of a small network."""
    folder = tmp_path_factory.mktemp("latency")
    write_ours(random_contestant(BuildOptions(variant="shufflenet_v2_x0_5", input_size=32), folder), folder)
    return folder


def test_match_figures_have_no_ratio_without_the_peers_file(folder: Path) -> None:
    figures = match_figures(MATCHES["int8_tflite"], folder, "m", num_queries=2)

    assert figures["m_n"] == 2
    assert isinstance(figures["m_ours_p50_ms"], float)
    assert figures["m_peer_p50_ms"] is None
    assert figures["m_wall_ratio"] is None
    assert figures["m_cpu_ratio"] is None


@pytest.mark.parametrize(("num_queries", "num_loads", "n"), [(2, 1, 2), (5, 3, 6)])
def test_match_figures_give_ratio_of_two_files(folder: Path, num_queries: int, num_loads: int, n: int) -> None:
    match = Match(ours="int8.onnx", peer="float.onnx", exact=False)

    figures = match_figures(match, folder, "m", num_queries, num_loads)

    assert figures["m_n"] == n
    ours, peer, ratio = figures["m_ours_p50_ms"], figures["m_peer_p50_ms"], figures["m_wall_ratio"]
    assert isinstance(ours, float)
    assert isinstance(peer, float)
    assert isinstance(ratio, float)
    if num_loads == 1:
        assert ratio == pytest.approx(ours / peer, rel=0.05, abs=0.002)


@pytest.mark.bench
def test_bench_latency_prints_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--models", "shufflenet_v2_x0_5", "--input-size", "32", "--queries", "4"])

    figures = json.loads(capsys.readouterr().out)
    assert figures["shufflenet_v2_x0_5_int8_onnx_n"] == 4
