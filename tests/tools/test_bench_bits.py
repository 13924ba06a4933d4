"""Rows below eight bits: what is measured, kept, judged and compared."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

import bits_jobs
import bits_peers
from bench_bits import main, measure
from benchmarking import ChildUsage, Sample, print_document
from bits_jobs import FLOAT, FOLDED_WEIGHTS, WEIGHTS, Answer, Job, Workshop
from bits_peers import PEER_JOBS, bytes_at, nncodec_rows, peer_row, yardstick_figures
from bits_plan import MODELS, SETTINGS, ModelPlan
from bits_rows import Row, Scores, cached, describe, judge, row_figures
from bits_worker import TASKS, score
from bits_worker import main as work
from edgekit.core.artifact import ModelCard
from edgekit.core.errors import UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_writer import write_onnx
from edgekit.runtime.interpreter import load_interpreter
from graphs import GraphBuilder
from peer_jobs import PREPARE
from peers import Peers

SMALL, IMAGENET = MODELS["mobilenet"], MODELS["mobilenet_v2"]


def scores_of(agreement: float = 99.0, drop: float = 0.1) -> Scores:
    return Scores(
        top1=(90.0, 89.0, 91.0),
        agreement=(agreement, agreement - 1, agreement + 1),
        drop=(drop, drop - 0.1, drop + 0.1),
        num_pictures=10,
        num_views=10,
    )


class Workers:
    """Stands for the worker's processes: answers every job with a row, and remembers the jobs."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.jobs: list[Job] = []

    def run(self, command: Sequence[str], **_: object) -> ChildUsage:
        self.jobs.append(msgspec.json.decode(Path(command[-1]).read_bytes(), type=Job))
        answer = msgspec.json.encode(Answer(rows=(self.row,)))
        return ChildUsage(sample=Sample(wall_s=1.0, cpu_s=1.0), peak_rss_mib=1.0, exit_code=0, stdout=answer)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    made = Workers(Row(scores=scores_of(), file_bytes=1500, ekz_bytes=1000, weight_bytes=900, wall_s=2.0))
    monkeypatch.setattr(bits_jobs, "run_child", made.run)
    return made


def test_bars_are_those_of_full_test_sets_or_of_samples() -> None:
    row = Row(scores=scores_of(agreement=91.0, drop=0.6), ekz_bytes=700)

    assert judge(row, SMALL, SETTINGS["w6a8"], 1000) == {"drop": False, "size": True}
    assert judge(row, IMAGENET, SETTINGS["w6a8"], 999) == {"agreement": True, "size": False}
    assert judge(row, IMAGENET, SETTINGS["w8a8"], 1000) == {"agreement": False}
    assert judge(row, IMAGENET, SETTINGS["mixed"], 1400) == {"drop": True, "size": True}
    assert judge(row, SMALL, SETTINGS["w4a8_qat"], None) == {"drop": False}
    assert judge(Row(error="no"), SMALL, SETTINGS["w6a8"], 1000) == {"drop": False, "size": False}


def test_a_budget_is_a_share_of_the_w8a8_file() -> None:
    setting = SETTINGS["mixed"]

    assert setting.recipe_overrides(531_275) == (*setting.overrides, "quantize.budget_kb=265.637")
    assert setting.recipe_overrides(None) is None
    assert SETTINGS["w6a8"].recipe_overrides(None) == ("quantize.scheme=static_wi6_ai8",)


def test_training_is_for_small_models_and_the_curve_for_those_with_a_yardstick() -> None:
    assert SETTINGS["w4a8_qat"].suits(SMALL)
    assert not SETTINGS["w4a8_qat"].suits(IMAGENET)
    assert SETTINGS["w5a8"].suits(IMAGENET)
    assert not SETTINGS["w5a8"].suits(SMALL)


def test_row_figures_make_a_flat_document(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row(scores=scores_of(), ekz_bytes=700, file_bytes=1500, wall_s=2.34)

    print_document(row_figures("m.w6a8", row, 1000) | row_figures("m.mixed", Row(error="cannot"), None))

    figures = json.loads(capsys.readouterr().out)
    assert figures["m.w6a8.agreement_low_percent"] == 98.0
    assert figures["m.w6a8.drop_high_points"] == 0.2
    assert figures["m.w6a8.ekz_ratio_to_w8a8"] == 0.7
    assert figures["m.w6a8.wall_s"] == 2.3
    assert figures["m.mixed.error"] == "cannot"
    assert "m.mixed.top1_percent" not in figures


def test_row_is_made_once_unless_it_has_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "a.json"
    rows = iter((Row(error="busy"), Row(scores=scores_of(), ekz_bytes=7), Row(ekz_bytes=8)))

    assert cached(path, lambda: next(rows)).error == "busy"
    assert cached(path, lambda: next(rows)).ekz_bytes == 7
    assert cached(path, lambda: next(rows)) == Row(scores=scores_of(), ekz_bytes=7)


def test_describe_says_size_and_what_is_lost() -> None:
    row = Row(scores=scores_of(), ekz_bytes=1234, file_bytes=5, wall_s=3.0)

    assert describe(row) == "1,234 bytes, top-1 90.00 %, agreement 99.00 %, +0.10 points lost, 3 s"


def test_score_counts_intervals_over_pictures_and_pairs_the_drop(tmp_path: Path) -> None:
    labels = np.tile(np.arange(4), (2, 1))  # two crops of four pictures
    exact = np.eye(5, dtype=np.float32)[labels.ravel()]
    wrong_twice = exact.copy()
    wrong_twice[[3, 7]] = exact[0]  # both crops of the last picture
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "float_answers.npy", exact)

    same, other = score(exact, tmp_path), score(wrong_twice, tmp_path)

    assert same.drop == (0.0, 0.0, 0.0)
    assert same.agreement[0] == 100
    assert (other.top1[0], other.agreement[0], other.drop[0]) == (75.0, 75.0, 25.0)
    assert (other.num_pictures, other.num_views) == (4, 8)
    assert other.top1[1] < 35  # eight answers would give 40.9
    assert other.drop[2] - other.drop[0] == pytest.approx(100 * 1.96 * np.sqrt(0.1875 / 4), rel=1e-3)


def test_bytes_at_lies_between_the_points_around_the_bar() -> None:
    points = [(100, 60.0), (200, 94.0), (300, 96.0), (400, 99.0)]

    assert bytes_at(points, 95.0) == 250
    assert bytes_at(points, 99.0) == 400
    assert bytes_at(points, 50.0) == 100
    assert bytes_at(points, 99.5) is None


def test_yardstick_takes_the_better_form_and_our_smallest_file_that_agrees() -> None:
    def coded(size: int, agreement: float) -> Row:
        return Row(scores=scores_of(agreement), weight_bytes=size)

    theirs = {
        "nncodec_folded_qp_minus_30": coded(500, 95.0),
        "nncodec_apart_qp_minus_30": coded(300, 94.0),
        "nncodec_apart_qp_minus_31": coded(500, 96.0),
    }
    ours = {
        "w8a8": Row(scores=scores_of(99.0), ekz_bytes=600, weight_bytes=500),
        "mixed": Row(scores=scores_of(95.5), ekz_bytes=340, weight_bytes=300),
        "w4a8": Row(scores=scores_of(80.0), ekz_bytes=100, weight_bytes=90),
    }

    figures = yardstick_figures("m", ours, theirs)

    assert figures["m.nncodec_folded_bytes_at_95_percent"] == 500
    assert figures["m.nncodec_apart_bytes_at_95_percent"] == 400
    assert figures["m.ours_ekz_bytes_at_95_percent"] == 340
    assert figures["m.ours_ekz_bytes_smaller_than_nncodec_percent"] == 15.0
    assert figures["m.ours_weight_bytes_smaller_than_nncodec_percent"] == 25.0
    assert figures["m.smaller_than_nncodec_is_met"] is True
    assert "m.smaller_than_nncodec_is_met" not in yardstick_figures("m", {"w4a8": ours["w4a8"]}, theirs)


def test_main_measures_every_row_once(workers: Workers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--work", str(tmp_path), "--model", "mobilenet", "--setting", "mixed", "w8a8", "--set", "quantize.seed=3"]

    main(words)
    first = json.loads(capsys.readouterr().out)
    main(words)
    second = json.loads(capsys.readouterr().out)

    assert [job.task for job in workers.jobs] == ["prepare", "compress", "compress"]
    assert workers.jobs[1].overrides == ("quantize.scheme=static_wi8_ai8", "quantize.seed=3")
    assert "quantize.budget_kb=0.500" in workers.jobs[2].overrides
    assert first["mobilenet.mixed.bar_drop_is_met"] is True
    assert first["mobilenet.mixed.bar_size_is_met"] is False
    assert (first["num_rows_with_bars"], first["num_rows_that_meet_them"]) == (2, 1)
    assert {key: second[key] for key in first if "machine" not in key} == {
        key: first[key] for key in first if "machine" not in key
    }


def test_main_goes_on_when_a_model_is_not_at_hand(
    workers: Workers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers.row = Row(error="no weights")

    main(["--work", str(tmp_path), "--model", "efficientnet_lite0"])

    figures = json.loads(capsys.readouterr().out)
    assert figures["efficientnet_lite0.float.error"] == "no weights"
    assert [job.task for job in workers.jobs] == ["prepare"]


def test_a_budget_without_a_w8a8_file_is_a_row_with_an_error(workers: Workers, tmp_path: Path) -> None:
    rows, figures = measure(Workshop(tmp_path), SMALL, [SETTINGS["mixed"]])

    assert "no w8a8 file" in rows["mixed"].error
    assert figures["mobilenet.mixed.bars_are_met"] is False
    assert workers.jobs == []


def test_a_trained_run_is_looked_for_below_runs(workers: Workers, tmp_path: Path) -> None:
    plan = MODELS["squeezenet_cifar10"]

    Workshop(tmp_path, tmp_path / "runs").prepare(plan)

    assert workers.jobs[0].plan.model == str(tmp_path / "runs" / "squeezenet-cifar10")
    with pytest.raises(UsageError, match="trained run"):
        Workshop(tmp_path / "other").prepare(plan)


def test_a_worker_that_dies_is_a_row_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died = ChildUsage(sample=Sample(wall_s=1.0, cpu_s=1.0), peak_rss_mib=1.0, exit_code=-9, stdout=b"")
    monkeypatch.setattr(bits_jobs, "run_child", lambda *_, **__: died)

    assert Workshop(tmp_path).prepare(SMALL).error == "the worker ended with exit code -9"


def test_peer_that_fails_says_why_in_its_row(workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Peers):
        def __init__(self) -> None:
            self.failure = "ort_quantize failed: no int4"

        def ask(self, job: str, **settings: str) -> None:
            assert (job, settings["weight_bits"]) == ("ort_quantize", "4")

    monkeypatch.setattr(bits_peers, "start_peers", lambda _: nullcontext(Failing()))
    workshop = Workshop(tmp_path)
    workshop.prepare(SMALL)

    assert peer_row(workshop, SMALL, "onnxruntime_w4a8", "python").error == "ort_quantize failed: no int4"
    assert [job.task for job in workers.jobs] == ["prepare"]


def test_nncodec_counts_the_bytes_of_its_streams(workers: Workers, tmp_path: Path) -> None:
    class Coder(Peers):
        def __init__(self) -> None:
            self.peak_rss_mib, self.failure = 10.0, ""

        def ask(self, job: str, **settings: str) -> Sample:
            if job == "nncodec_encode":
                np.savez(settings["output"], a=np.zeros(-int(settings["qp"]), np.uint8), b=np.zeros(5, np.uint8))
            return Sample(wall_s=1.0, cpu_s=1.0)

    workshop = Workshop(tmp_path)
    workshop.prepare(IMAGENET)
    np.savez(workshop.folder(IMAGENET) / FOLDED_WEIGHTS, a=np.zeros(4, np.float32))

    rows = nncodec_rows(workshop, IMAGENET, Coder(), (-32, -31, -30, -29, -28, -27, -26))

    assert {name: row.weight_bytes for name, row in rows.items()} == {
        "nncodec_folded_qp_minus_29": 34,  # agrees enough, as all that the worker measures here
        "nncodec_folded_qp_minus_27": 32,
        "nncodec_folded_qp_minus_26": 31,
    }
    assert [job.task for job in workers.jobs] == ["prepare", *["restore"] * 3]


@pytest.mark.usefixtures("workers")
def test_nncodec_is_measured_on_both_sides_of_the_agreement_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agreeing(*arguments: object) -> Row:
        return Row(scores=scores_of(agreement=60.0 - float(str(arguments[-1]))), weight_bytes=1)

    monkeypatch.setattr(bits_peers, "_nncodec_row", agreeing)
    workshop = Workshop(tmp_path)
    workshop.prepare(IMAGENET)
    (workshop.folder(IMAGENET) / FOLDED_WEIGHTS).touch()
    coder = Peers(io.BytesIO(), io.BytesIO())

    names = set(nncodec_rows(workshop, IMAGENET, coder, tuple(range(-42, -25))))

    assert {"nncodec_folded_qp_minus_35", "nncodec_folded_qp_minus_34"} <= names
    assert len(names) <= 5


def test_every_peer_has_a_job() -> None:
    assert {how.job for how in PEER_JOBS.values()} <= set(PREPARE)


def test_matmul_nbits_gets_products_that_answer_as_the_gemms_did(tmp_path: Path) -> None:
    builder = GraphBuilder((1, 3, 8, 8))
    builder.gemm(builder.flatten(builder.relu6(builder.conv("input", 4))), 5)
    spec = PreprocessSpec(input_size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    source, target = tmp_path / "float.onnx", tmp_path / "nbits.onnx"
    write_onnx(builder.build(), source, ModelCard(model="a", scheme="float", labels=(), preprocess=spec))

    PREPARE["ort_matmul_nbits"]({"input": str(source), "output": str(target)})()

    kinds = [node.op_type for node in onnx.load(str(target)).graph.node]
    assert "MatMulNBits" in kinds
    assert "Gemm" not in kinds
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    exact, coarse = (load_interpreter(path).run(x) for path in (source, target))
    assert 0 < np.abs(coarse - exact).max() < 0.3 * np.abs(exact).max()


@pytest.mark.slow
def test_worker_compresses_and_restores_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ModelPlan(name="m", model="mobilenet", data="fashion_mnist_mini")

    def do(**settings: object) -> Row:
        values = {"plan": plan, "folder": str(tmp_path), "max_pictures": 50, **settings}
        (tmp_path / "job.json").write_bytes(msgspec.json.encode(msgspec.convert(values, Job)))
        capsys.readouterr()
        work([str(tmp_path / "job.json")])
        return msgspec.json.decode(capsys.readouterr().out, type=Answer).rows[0]

    exact = do(task="prepare")
    wanted = ("quantize.scheme=static_wi6_ai8", "quantize.num_calibration=32")
    made = do(task="compress", overrides=wanted, run_dir=str(tmp_path / "run"))
    folded, apart = (do(task="restore", files=(str(tmp_path / name),)) for name in (FOLDED_WEIGHTS, WEIGHTS))
    peer = do(task="score", files=(str(tmp_path / FLOAT),))
    refused = do(task="compress", overrides=("quantize.scheme=static_wi3_ai8",), run_dir=str(tmp_path / "none"))

    assert exact.scores is not None
    assert made.scores is not None
    assert made.scores.num_pictures == 50
    assert made.ekz_bytes == (tmp_path / "run" / "model.ekz").stat().st_size
    assert made.ekz_bytes is not None
    assert made.weight_bytes is not None
    assert 0.5 * made.ekz_bytes < made.weight_bytes < made.ekz_bytes
    assert made.peak_rss_mib is not None
    assert folded.scores == apart.scores == exact.scores == peer.scores
    assert peer.ekz_bytes is not None
    assert "static_wi3_ai8" in refused.error


def test_every_task_of_a_job_is_done_by_the_worker() -> None:
    assert set(TASKS) == {"prepare", "compress", "score", "restore"}
