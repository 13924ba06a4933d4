from __future__ import annotations

import argparse
import json

import pytest

from bench_compress import main, model_words, stage_figures, start_figures
from edgekit.core.errors import EdgekitError, UsageError


def report(seconds: float) -> bytes:
    stage = {"name": "Make report", "seconds": seconds, "peak_rss_mib": 1.0}
    return json.dumps({"model": "m", "stages": [stage]}).encode()


def test_stage_figures_are_medians_of_the_reports() -> None:
    assert stage_figures([report(1.0), report(5.0), report(2.0)]) == {"stage_make_report_wall_s": 2.0}


def test_stage_figures_refuse_what_is_no_report() -> None:
    with pytest.raises(EdgekitError, match="no report"):
        stage_figures([b"saved to runs/"])


def test_model_words_ask_for_random_weights_of_a_size() -> None:
    options = argparse.Namespace(model="mobilenet_v2", untrained=True, input_size=28)

    assert model_words(options) == ["mobilenet_v2", "--bits", "8", "--untrained", "--input-size", "28"]


def test_main_refuses_input_size_of_trained_weights() -> None:
    with pytest.raises(UsageError, match="untrained"):
        main(["--input-size", "28"])


def test_import_edgekit_loads_no_torch() -> None:
    figures = start_figures(1)

    assert figures["import_edgekit_loads_torch"] is False
    for name in ("bare_python", "help", "import_edgekit"):
        cpu_s = figures[f"{name}_cpu_s"]
        assert isinstance(cpu_s, float)
        assert cpu_s >= 0


@pytest.mark.bench
def test_bench_compress_prints_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--model", "mobilenet_v2_w0.25", "--untrained", "--input-size", "28"])

    figures = json.loads(capsys.readouterr().out)
    assert figures["compress_rounds"] == 1
    assert figures["compress_peak_rss_mib"] > 100
    assert figures["stage_quantize_wall_s"] <= figures["compress_wall_s"]
