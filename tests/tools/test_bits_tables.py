from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarking import Figure
from bits_plan import MODELS, SETTINGS
from bits_rows import Row, Scores, judge, row_figures
from bits_tables import main, nncodec_table, own_table, peers_table

SCORES = Scores(
    top1=(90.0, 89.0, 91.0), agreement=(99.0, 98.0, 99.5), drop=(0.6, 0.5, 0.7), num_pictures=10, num_views=10
)


@pytest.fixture
def figures() -> dict[str, Figure]:
    row = Row(scores=SCORES, ekz_bytes=6900, file_bytes=15_000, wall_s=2.0, peak_rss_mib=700.0)
    found = row_figures("mobilenet.w6a8", row, 10_000)
    met = judge(row, MODELS["mobilenet"], SETTINGS["w6a8"], 10_000)
    found |= {f"mobilenet.w6a8.bar_{name}_is_met": is_met for name, is_met in met.items()}
    found |= row_figures("mobilenet.mixed", Row(error="no such scheme"), 10_000)
    found |= row_figures("mobilenet.onnxruntime_w4a8", row, 10_000)
    coded = Row(scores=SCORES, weight_bytes=12_345)
    return found | row_figures("mobilenet_v2.nncodec_folded_qp_minus_30", coded, None)


def test_own_table_says_which_bar_is_missed(figures: dict[str, Figure]) -> None:
    _, _, measured, failed = own_table(figures)

    assert measured == (
        "| mobilenet | w6a8 | 90.00 (89.00 to 91.00) | 99.00 (98.00 to 99.50) | 0.60 (0.50 to 0.70) "
        "| 6,900 | 0.69 | 2.0 | 700.0 | **missed: drop** |"
    )
    assert failed.startswith("| mobilenet | mixed | no such scheme |")
    assert measured.count("|") == failed.count("|")


def test_peers_and_nncodec_have_tables_of_their_own(figures: dict[str, Figure]) -> None:
    assert "| mobilenet | onnxruntime_w4a8 |" in peers_table(figures)[2]
    assert "15,000 | 6,900" in peers_table(figures)[2]
    assert "nncodec_folded_qp_minus_30 | 12,345 | 99.00" in nncodec_table(figures)[2]


def test_main_prints_every_table(
    figures: dict[str, Figure], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({**figures, "mobilenet_v2.ours_ekz_bytes_at_95_percent": 5}))

    main([str(path)])

    printed = capsys.readouterr().out
    assert sum(line.startswith("|---") for line in printed.splitlines()) == 3
    assert "mobilenet_v2.ours_ekz_bytes_at_95_percent: 5" in printed
