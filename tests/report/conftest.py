"""A plausible report, and ways to bend it."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable

import msgspec
import pytest

from edgekit.core.measurement import Accuracy, Agreement, Latency, wilson_interval
from edgekit.core.report import (
    AccuracyTable,
    AgreementTable,
    BitsReport,
    BitsRow,
    Check,
    CodingRow,
    Disagreement,
    LayerRow,
    Original,
    ParetoPoint,
    PrunedChannels,
    Report,
    ReportDataset,
    ShrinkReport,
    Sizes,
    StageRow,
)

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def png(size: int = 8, shade: int = 128) -> str:
    """A gray PNG with a diagonal, base64."""
    rows = b"".join(b"\0" + bytes(255 if x == y else shade for x in range(size)) for y in range(size))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def accuracy(num_right: int, n: int) -> Accuracy:
    return Accuracy(
        top1=num_right / n,
        top5=min(1.0, num_right / n + 0.055),
        n=n,
        ci95=wilson_interval(num_right, n),
    )


def latency(file: str, runtime: str, p50_ms: float, n: int = 1024) -> Latency:
    return Latency(
        file=file,
        runtime=runtime,
        board="host_cpu",
        num_threads=1,
        num_warmup=16,
        n=n,
        p50_ms=p50_ms,
        p90_ms=p50_ms * 1.09 if n >= 64 else None,
        p99_ms=p50_ms * 1.42 if n >= 662 else None,
        cpu_p50_ms=p50_ms * 0.99,
        load_ms=14.2,
        first_ms=p50_ms * 2.3,
        peak_rss_mib=48.3 if n >= 64 else None,
    )


def layers(count: int = 20) -> tuple[LayerRow, ...]:
    rows = []
    for i in range(count):
        depthwise = i % 3 == 1
        channels = 16 + 8 * (i // 2)
        shape = (channels, 1, 3, 3) if depthwise else (channels, max(1, channels // 2), 1, 1)
        weights = shape[0] * shape[1] * shape[2] * shape[3]
        rows.append(
            LayerRow(
                name=f"features.{i // 3 + 1}.conv.{i % 3}",
                op="DepthwiseConv" if depthwise else "Conv",
                shape=shape,
                macs=weights * max(1, 196 // (1 + i // 6)),
                grid_bits=8,
                density=1.0 - 0.002 * (i % 7),
                scale_granularity="per_channel",
                bytes=weights,
                entropy_bytes=int(weights * (0.92 - 0.01 * (i % 5))),
                sqnr_db=41.0 - 0.8 * (i % 11) - 14 * i / count,
            )
        )
    return tuple(rows)


def confusion(num_classes: int = 10, per_class: int = 100) -> tuple[tuple[int, ...], ...]:
    rows = []
    for i in range(num_classes):
        row = [0] * num_classes
        row[(i + 1) % num_classes] += i % 4
        row[(i * 7 + 3) % num_classes] += i % 3
        row[i] += per_class - sum(row)
        rows.append(tuple(row))
    return tuple(rows)


def disagreements(count: int = 9) -> tuple[Disagreement, ...]:
    return tuple(
        Disagreement(
            index=37 + 101 * i,
            png_base64=png(shade=60 + 9 * (i % 20)),
            label=CLASSES[i % 10],
            float_answer=(CLASSES[(i + i % 2) % 10], 0.51 + 0.01 * (i % 10)),
            int8_answer=(CLASSES[(i + 1 - i % 3) % 10], 0.48 + 0.01 * (i % 10)),
        )
        for i in range(count)
    )


def checks() -> tuple[Check, ...]:
    return (
        Check(
            name="float ONNX equals the torch model", passed=True, measured="max abs error 4.8e-06", bar="at most 1e-04"
        ),
        Check(name="quantization applied everywhere", passed=True, measured="0 float ops left", bar="none"),
        Check(name="accuracy kept by the TFLite file", passed=True, measured="-0.10 points", bar="at most 1.0 lost"),
        Check(name="accuracy kept by the ONNX file", passed=True, measured="-0.12 points", bar="at most 1.0 lost"),
        Check(name="TFLite and ONNX hold the same integers", passed=True, measured="equal", bar="equal"),
        Check(name="TFLite and ONNX outputs", passed=True, measured="2 steps apart", bar="at most 3"),
    )


def build_report() -> Report:
    return Report(
        model="mobilenet_v2_w0.5",
        scheme="static_wi8_ai8",
        trained=True,
        num_params=701_322,
        macs=12_345_678,
        input_shape=(1, 1, 28, 28),
        dataset=ReportDataset(name="fashion_mnist", split="test", n=1000, labelled=True, class_names=CLASSES),
        sizes=Sizes(
            float_bytes=2_812_345, onnx_bytes=748_112, tflite_bytes=731_904, ekz_bytes=661_220, limit_bytes=652_118
        ),
        accuracy=AccuracyTable(float=accuracy(938, 1000), onnx=accuracy(936, 1000), tflite=accuracy(937, 1000)),
        agreement=AgreementTable(
            onnx=Agreement(top1=0.989, max_abs_error=0.612, n=1000),
            tflite=Agreement(top1=0.991, max_abs_error=0.587, n=1000),
            float_onnx=Agreement(top1=1.0, max_abs_error=4.8e-6, n=1000),
            tflite_onnx_max_steps=2,
            tflite_onnx_mean_steps=0.061,
        ),
        checks=checks(),
        latency=(
            latency("model.tflite", "litert 2.3.0", 0.412),
            latency("float.onnx", "onnxruntime 1.32.0", 0.533, n=100),
            latency("model.onnx", "onnxruntime 1.32.0, exact int8", 0.611, n=32),
        ),
        layers=layers(),
        first_divergent_layer=None,
        confusion=confusion(),
        disagreements=disagreements(),
        stages=(
            StageRow(name="float ONNX", seconds=1.42, peak_rss_mib=412.0),
            StageRow(name="calibrate and quantize", seconds=6.31, peak_rss_mib=538.2),
            StageRow(name="write TFLite and ONNX", seconds=0.12, peak_rss_mib=538.2),
            StageRow(name="verify", seconds=12.9, peak_rss_mib=611.7),
            StageRow(name="measure latency", seconds=4.0, peak_rss_mib=611.7),
        ),
        environment={"edgekit": "0.1.0", "python": "3.11.7", "cpu": "x86-64, 2 cores", "torch": "2.13.0", "seed": "0"},
        command="edgekit compress mobilenet --bits 8",
        created="2025-01-31T12:00:00+00:00",
    )


@pytest.fixture
def report() -> Report:
    """A labelled run that passed."""
    return build_report()


@pytest.fixture
def unlabelled(report: Report) -> Report:
    """A run on pictures without labels, not packed, without a torch model."""
    return unlabel(report)


def unlabel(report: Report) -> Report:
    assert report.agreement is not None
    return msgspec.structs.replace(
        report,
        dataset=msgspec.structs.replace(report.dataset, name="holiday", labelled=False, class_names=()),
        accuracy=AccuracyTable(float=None, onnx=None, tflite=None),
        agreement=msgspec.structs.replace(report.agreement, float_onnx=None),
        sizes=msgspec.structs.replace(report.sizes, ekz_bytes=None),
        confusion=None,
        disagreements=tuple(msgspec.structs.replace(picture, label=None) for picture in report.disagreements),
    )


@pytest.fixture
def failed(report: Report) -> Report:
    """A run that lost accuracy in a named layer."""
    return fail(report)


def fail(report: Report) -> Report:
    missed = Check(
        name="accuracy kept by the TFLite file",
        passed=False,
        measured="-3.20 points",
        bar="at most 1.0 lost",
        layer="features.3.conv.1",
    )
    return msgspec.structs.replace(
        report, checks=(*report.checks[:2], missed, *report.checks[3:]), first_divergent_layer="features.3.conv.1"
    )


@pytest.fixture
def bare(report: Report) -> Report:
    """As little as a report may hold."""
    return strip(report)


def strip(report: Report) -> Report:
    return msgspec.structs.replace(
        unlabel(report),
        trained=False,
        checks=(),
        latency=(),
        layers=(),
        disagreements=(),
        stages=(),
        environment={},
    )


@pytest.fixture
def shrunk(report: Report) -> Report:
    """A run that was pruned, shared and coded."""
    return shrink(report)


def coding_row(layer: str, num_weights: int) -> CodingRow:
    is_total = layer == "total"
    return CodingRow(
        layer=layer,
        num_weights=num_weights,
        kept=0.125,
        num_levels=None if is_total else 31,
        max_levels=None if is_total else 32,
        weight_bits=5.0,
        coded_weight_bits=4.22,
        index_bits=5.0,
        coded_index_bits=3.61,
        shared_bytes=num_weights // 6,
        classic_bytes=num_weights // 8,
        ekz_bytes=num_weights // 10,
    )


def shrink(report: Report) -> Report:
    section = ShrinkReport(
        original=Original(
            num_params=980_000,
            macs=24_000_000,
            float_bytes=3_930_000,
            tflite_bytes=1_010_000,
            ekz_bytes=905_000,
            accuracy=accuracy(939, 1000),
        ),
        pruning_ratio=0.3,
        channels=(
            PrunedChannels(layers=("features.0", "features.1.conv.0"), num_channels=32, num_kept=24, reason=None),
            PrunedChannels(layers=("classifier",), num_channels=10, num_kept=10, reason="the model's output"),
        ),
        sparsity=0.875,
        pattern=None,
        method="global",
        conv_bits=8,
        fc_bits=5,
        num_epochs=9,
        code="huffman",
        coding=(coding_row("features.0", 4_000), coding_row("classifier", 60_000), coding_row("total", 64_000)),
        float_weight_bytes=3_920_000,
    )
    return msgspec.structs.replace(
        report, shrink=section, latency=(*report.latency, latency("original.tflite", "litert 2.3.0", 0.824))
    )


@pytest.fixture
def mixed(report: Report) -> Report:
    """A run with bits from a budget, and a sweep."""
    return mix(report)


def grid_of(row: LayerRow, index: int, count: int) -> BitsRow:
    reasons = {0: "first layer", count - 1: "last layer"}
    because = "depthwise" if row.op == "DepthwiseConv" else reasons.get(index)
    grid_bits = 8 if because else 4 + index % 2
    bits_per_weight = grid_bits - 0.61
    num_weights = row.bytes
    return BitsRow(
        layer=row.name,
        op=row.op,
        num_weights=num_weights,
        grid_bits=grid_bits,
        wide_because=because,
        method="nearest" if because else ("gptq", "adaround")[index % 2],
        output_sqnr_db=6.0 * grid_bits - 2.5 + index % 3 if index != 2 else None,
        bits_per_weight=bits_per_weight,
        entropy_bytes=round(num_weights * bits_per_weight / 8),
    )


def mix(report: Report) -> Report:
    rows = tuple(grid_of(row, index, len(report.layers)) for index, row in enumerate(report.layers))
    grids = {row.layer: row.grid_bits for row in rows}
    swept = ((3.4, 261_000, 902), (4.0, 287_400, 925), (4.6, 328_412, 934), (5.5, 402_900, 936), (6.7, 540_100, 937))
    points = [
        ParetoPoint(
            label=f"mixed, {grid_bits} bits",
            kind="lowbit",
            size_bytes=size_bytes,
            grid_bits=grid_bits,
            top1=num_right / 1000,
            agreement=(num_right + 45) / 1000,
            n=1000,
            is_chosen=grid_bits == 4.6,
        )
        for grid_bits, size_bytes, num_right in swept
    ]
    whole = ParetoPoint(
        label="float", kind="float", size_bytes=2_812_345, grid_bits=None, top1=0.938, agreement=1.0, n=1000
    )
    plain = ParetoPoint(
        label="int8", kind="int8", size_bytes=661_220, grid_bits=8.0, top1=0.937, agreement=0.991, n=1000
    )
    section = BitsReport(
        asked="mixed",
        budget_bytes=330_000,
        max_drop=1.0,
        drop=0.4,
        num_held_out=1000,
        equalized=True,
        num_calibration=256,
        engine="edgekit",
        compute="int8",
        num_epochs=0,
        layers=rows,
        pareto=(whole, plain, *points),
        notes=("one dead channel of features.1.conv.1 stays zero",),
    )
    return msgspec.structs.replace(
        report,
        scheme="static_wimixed_ai8",
        command="edgekit compress mobilenet --bits mixed --budget-kb 330 --max-drop 1 --pareto",
        sizes=msgspec.structs.replace(report.sizes, ekz_bytes=328_412, limit_bytes=324_900),
        layers=tuple(msgspec.structs.replace(row, grid_bits=grids[row.name]) for row in report.layers),
        bits=section,
    )


Build = Callable[..., Report]


@pytest.fixture
def change(report: Report) -> Build:
    """`change(field=value)`: the report with some fields replaced."""
    return lambda **fields: msgspec.structs.replace(report, **fields)
