"""The board beside the host: which file of the run serves there, how large it is, how long it takes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgekit.core.device_status import ModelStatus, StageLatency
from edgekit.core.measurement import Latency
from edgekit.core.report import Report


class SizeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One size on both machines, bytes; None where it is not known."""

    name: str
    host_bytes: int | None
    board_bytes: int | None


class HostSide(msgspec.Struct, frozen=True, kw_only=True):
    """What the run that made the model measured.

    Args:
        model: Its model.
        scheme: Its quantization scheme.
        file: Which of its files serves on the board ("model.tflite", "model.onnx"); None when none has that size.
        latency: Of that file on the host; None when it was not timed.
        ratio_p50: The board's median inference over the host's; None without either.
        accuracy: Share of right answers of that file on the host, 0..1; None when unknown.
        num_pictures: Pictures that the accuracy was measured on.
    """

    model: str
    scheme: str
    file: str | None
    latency: Latency | None
    ratio_p50: float | None
    accuracy: float | None
    num_pictures: int


def size_rows(model: ModelStatus, host: Report | None) -> tuple[SizeRow, ...]:
    """Packed, as a file, and the float file it came from."""
    sizes = None if host is None else host.sizes
    file = None if host is None else served_file(host, model)
    is_onnx = file is not None and file.endswith(".onnx")
    host_file_bytes = host_packed_bytes = None
    if sizes is not None and file is not None:
        host_file_bytes = sizes.onnx_bytes if is_onnx else sizes.tflite_bytes
        host_packed_bytes = None if is_onnx else sizes.ekz_bytes  # the run packs its TFLite file
    rows = [
        SizeRow(name="packed (.ekz)", host_bytes=host_packed_bytes, board_bytes=model.packed_bytes),
        SizeRow(name="model file", host_bytes=host_file_bytes, board_bytes=model.file_bytes),
    ]
    if sizes is not None:
        rows.insert(0, SizeRow(name="float ONNX", host_bytes=sizes.float_bytes, board_bytes=None))
    return tuple(rows)


def served_file(host: Report, model: ModelStatus) -> str | None:
    """The file of the run that has the size of the one on the board; None when none has."""
    by_size = {host.sizes.onnx_bytes: "model.onnx", host.sizes.tflite_bytes: "model.tflite"}
    return by_size.get(model.file_bytes)


def compare_host(host: Report, model: ModelStatus | None, stages: Sequence[StageLatency]) -> HostSide:
    """Find what the host measured of the file that the board runs.

    Args:
        host: Report of the run.
        model: What serves on the board; None when nothing does.
        stages: Latency on the board.
    """
    file = None if model is None else served_file(host, model)
    latency = None if model is None or file is None else _latency_of(host, file, model.runtime)
    inference = next((stage for stage in stages if stage.stage == "inference"), None)
    ratio = None
    if latency is not None and inference is not None and inference.p50_ms is not None and latency.p50_ms > 0:
        ratio = inference.p50_ms / latency.p50_ms
    accuracy = None
    if file is not None:
        accuracy = host.accuracy.onnx if file.endswith(".onnx") else host.accuracy.tflite
    return HostSide(
        model=host.model,
        scheme=host.scheme,
        file=file,
        latency=latency,
        ratio_p50=ratio,
        accuracy=None if accuracy is None else accuracy.top1,
        num_pictures=0 if accuracy is None else accuracy.n,
    )


def _latency_of(host: Report, file: str, runtime: str) -> Latency | None:
    """The row of that file; of several, the one of the same runtime."""
    rows = [row for row in host.latency if row.file == file]
    same = [row for row in rows if row.runtime.split()[:1] == runtime.split()[:1]]
    return next(iter(same or rows), None)
