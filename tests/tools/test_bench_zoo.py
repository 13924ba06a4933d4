"""The comparison of classic and compact networks: its plan, its rows, its front, its table and its plot."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

import bench_zoo
import zoo_runs
import zoo_sizes
from edgekit.core.errors import UnsupportedOpError
from edgekit.core.measurement import Accuracy, wilson_interval
from edgekit.core.recipe_files import load_recipe
from edgekit.core.report import Report
from edgekit.models.listing import PackedSize, PackedSizes, list_systems
from edgekit.models.zoo import variant_names
from edgekit.report.files import read_report
from edgekit.train.shipped import find_recipe
from zoo_plan import EPOCHS, PLAN, YARDSTICK, Training, find_trainings
from zoo_plot import draw_plot, draw_published
from zoo_runs import ZooRow, is_known, is_trained, read_row
from zoo_sizes import SizeRow, packed_of, write_sizes
from zoo_tables import accuracy_of, comparison_table, front, size_table

GOLDEN = Path(__file__).parent.parent / "golden" / "report_v1.json"
N = 10_000


def accuracy(top1: float) -> Accuracy:
    return Accuracy(top1=top1, top5=None, n=N, ci95=wilson_interval(round(top1 * N), N))


def row(model: str, top1: float, ekz_bytes: int, macs: int = 1_000_000, *, kind: str = "classic") -> ZooRow:
    training = msgspec.convert({"model": model, "data": "cifar10", "epochs": EPOCHS["cifar10"], "kind": kind}, Training)
    return ZooRow(
        training=training,
        num_params=1000,
        macs=macs,
        num_pictures=N,
        top1_float=accuracy(top1),
        top1_int8=accuracy(top1),
        float_bytes=4 * ekz_bytes,
        tflite_bytes=ekz_bytes + 1000,
        ekz_bytes=ekz_bytes,
        bars_met=True,
    )


@pytest.fixture
def report() -> Report:
    return read_report(GOLDEN)


def test_plan_names_every_folder_once_and_only_what_the_catalogue_has_or_will_have() -> None:
    stems = [training.stem for training in PLAN]

    assert len(stems) == len(set(stems))
    assert all(training.model.startswith("vit") for training in PLAN if not is_known(training))
    for data in EPOCHS:
        mine = [training for training in PLAN if training.data == data and training.is_short]
        assert {training.kind for training in mine} == {"classic", "compact"}
        assert YARDSTICK in {training.network for training in mine}


def test_every_classic_network_has_a_recipe_of_at_least_the_budget_of_all() -> None:
    classic = [each for each in PLAN if each.kind == "classic" and each.is_short and is_known(each)]

    for training in classic:
        path = find_recipe(training.model, training.data, training.width)
        assert path is not None, training.stem
        assert load_recipe(path).train.epochs >= EPOCHS[training.data]


def test_part_of_the_plan_is_found_by_its_name() -> None:
    found = find_trainings(["se_resnet18", "nin_w0.375-cifar10"])

    assert {training.stem for training in found} == {
        f"se_resnet18_w0.25-fashion_mnist-e{EPOCHS['fashion_mnist']}",
        f"se_resnet18_w0.25-cifar10-e{EPOCHS['cifar10']}",
        f"nin_w0.375-cifar10-e{EPOCHS['cifar10']}",
    }


def test_training_is_not_there_before_its_last_epoch(tmp_path: Path) -> None:
    training = Training(model="lenet5", data="fashion_mnist", epochs=3, kind="classic")

    assert not is_trained(training, tmp_path)
    assert is_trained(msgspec.structs.replace(training, model="mobilenet", epochs=None), tmp_path)


def test_row_has_the_figures_of_the_report(report: Report) -> None:
    found = read_row(PLAN[0], report)

    assert (found.num_params, found.macs, found.ekz_bytes) == (report.num_params, report.macs, report.sizes.ekz_bytes)
    assert (found.top1_float, found.top1_int8) == (report.accuracy.float, report.accuracy.tflite)


def test_front_holds_who_is_beaten_by_nobody() -> None:
    rows = [row("a", 0.80, 300), row("b", 0.85, 200), row("c", 0.70, 100), row("d", 0.85, 400), row("e", 0.9, 500)]

    assert [each.training.model for each in front(rows, lambda each: each.ekz_bytes, accuracy_of)] == ["c", "b", "e"]


def test_table_marks_the_front_and_the_compact() -> None:
    lines = comparison_table([row("a", 0.80, 300_000), row("b", 0.85, 200_000, kind="compact")])

    assert lines[1] == "cifar10, 10000 test pictures:"
    assert [line.split(" | ")[0] for line in lines[5:]] == ["| **b (compact)**", "| a"]
    assert "85.00 % (84.29 to 85.69)" in lines[5]


@pytest.mark.parametrize("name", ["plot.svg", "plot.png"])
def test_plot_is_the_same_file_when_it_is_drawn_again(name: str, tmp_path: Path) -> None:
    rows = [row("a", 0.80, 300_000), row("b", 0.85, 200_000, 2_000_000, kind="compact")]

    first = draw_plot(rows, tmp_path / name).read_bytes()
    again = draw_plot(rows, tmp_path / f"again-{name}").read_bytes()

    assert first == again
    assert first.startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")


def test_plot_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_plot([], tmp_path / "plot.svg")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_published([entry for entry in list_systems() if entry.name == "lenet5"], tmp_path / "plot.svg")


def test_published_plot_names_the_front_and_the_classic_systems(tmp_path: Path) -> None:
    drawn = draw_published(list_systems(), tmp_path / "plot.svg").read_text(encoding="utf-8")

    named = ("alexnet", "vgg16", "vit_b_16", "shufflenet_v1_x0_25_g3", "mobilenet_v1_w0.25")
    assert [name for name in named if f">{name}<" not in drawn] == []
    assert ">squeezenet1_0<" not in drawn


def test_sizes_are_kept_beside_those_of_other_runs(tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"

    for variant in ("lenet5", "vgg16"):
        write_sizes({variant: packed_of(size_row(variant))}, path)

    sizes = msgspec.json.decode(path.read_bytes(), type=PackedSizes).sizes
    assert list(sizes) == ["lenet5", "vgg16"]
    assert (sizes["vgg16"].bits8_bytes, sizes["vgg16"].bits6_bytes, sizes["vgg16"].trained) == (80, 60, False)


def test_size_of_trained_weights_is_not_replaced_by_that_of_random_ones(tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    trained = PackedSize(bits8_bytes=70, bits6_bytes=50, trained=True)

    write_sizes({"lenet5": trained}, path)
    write_sizes({"lenet5": packed_of(size_row("lenet5"))}, path)

    assert msgspec.json.decode(path.read_bytes(), type=PackedSizes).sizes == {"lenet5": trained}


def size_row(variant: str) -> SizeRow:
    return SizeRow(
        variant=variant,
        float_bytes=400,
        tflite_bytes=100,
        ekz8_bytes=80,
        ekz6_bytes=60,
        export_cpu_s=1.5,
        export_wall_s=1.6,
    )


def test_size_table_is_in_the_order_of_the_years() -> None:
    entries = [msgspec.structs.replace(entry, packed=None) for entry in list_systems()]
    trained = PackedSize(bits8_bytes=70, bits6_bytes=50, trained=True)
    entries = [msgspec.structs.replace(each, packed=trained) if each.name == "lenet5" else each for each in entries]

    lines = size_table([size_row("vgg16"), size_row("lenet5")], {}, entries)

    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| lenet5", "1998"], ["| vgg16", "2014"]]
    assert "| 70 bytes | 50 bytes |" in lines[2]
    assert "138.36 M" in lines[3]
    assert "| ~80 bytes | ~60 bytes |" in lines[3]


def test_every_variant_has_a_measured_size() -> None:
    sizes = msgspec.json.decode(zoo_sizes.SIZES_PATH.read_bytes(), type=PackedSizes).sizes

    assert {variant for variant in variant_names() if variant not in sizes} <= {"vit_ti_16", "vit_b_16"}
    assert all(0.5 < size.bits6_bytes / size.bits8_bytes < 1 for size in sizes.values())


@pytest.mark.slow
def test_sizes_of_a_small_network_are_measured_once(tmp_path: Path) -> None:
    (found,) = zoo_sizes.measure_sizes(["lenet5"], tmp_path)

    assert zoo_sizes.measure_sizes(["lenet5"], tmp_path) == [found]
    # 431,000 weights in 8 bits, in 6 bits, and the rest of the file
    assert 0.8 * 431_080 < found.ekz8_bytes < found.tflite_bytes < 1.1 * 431_080
    assert 0.55 * found.ekz8_bytes < found.ekz6_bytes < 0.85 * found.ekz8_bytes
    latencies = zoo_sizes.measure_latency([found], tmp_path, num_queries=2)
    assert latencies["lenet5"].num_threads == 1


@pytest.mark.slow
def test_what_is_trained_is_compressed_and_measured(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, ...]] = []

    def fake_run(*words: str) -> None:
        calls.append(words)
        if words[0] == "compress":
            folder = Path(words[words.index("--out") + 1])
            folder.mkdir()
            (folder / "report.json").write_bytes(msgspec.json.encode(report))

    monkeypatch.setattr(zoo_runs, "run", fake_run)
    monkeypatch.setattr(bench_zoo, "with_latency", lambda rows, _: list(rows))

    bench_zoo.main(["--quick", "--runs", str(tmp_path), "--plot", str(tmp_path / "plot.svg")])

    figures = json.loads(capsys.readouterr().out)
    assert [words[0] for words in calls] == ["train", "compress"]
    assert calls[0][1:6] == ("lenet5", "--data", "fashion_mnist", "--epochs", "1")
    assert figures["lenet5.fashion_mnist.e1.ekz_bytes"] == report.sizes.ekz_bytes
    assert (tmp_path / "plot.svg").is_file()


def test_network_without_static_integers_is_left_to_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(variant: str, _: Path) -> SizeRow:
        raise UnsupportedOpError(f"no integer form of {variant}")

    monkeypatch.setattr(zoo_sizes, "_measure", refuse)

    assert zoo_sizes.measure_sizes(["lenet5"], tmp_path) == []
    assert "no integer form of lenet5" in capsys.readouterr().err


def test_latency_of_nothing_is_no_figure(tmp_path: Path) -> None:
    assert zoo_sizes.measure_latency([], tmp_path) == {}
