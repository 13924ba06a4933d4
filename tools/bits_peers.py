"""Peers beside `edgekit compress` in `bench_bits.py`: quantizers at 8 and 4 bits, and NNCodec at equal agreement.

Quantizers get our float files and the pictures that ours is calibrated on, in their defaults. NNCodec codes float
weights at several steps. What it codes is weights alone: activations stay float, and neither biases nor the graph
count, all of which is in its favour. Where BatchNorm lies apart from the weights, it codes those weights, and the
folded ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarking import Figure, note
from bits_jobs import CALIBRATION, FLOAT, FLOAT_TFLITE, FOLDED_WEIGHTS, WEIGHTS, Workshop
from bits_plan import ModelPlan
from bits_rows import Row, row_figures
from peers import Peers, start_peers

QPS = tuple(range(-42, -25))
"""Quantization parameters of NNCodec: its step halves with every four."""

QUICK_QPS = (-36, -30)
YARDSTICK_AGREEMENT = 95.0
GOAL_SMALLER_PERCENT = 10.0
FORMS: Mapping[str, str] = {"folded": FOLDED_WEIGHTS, "apart": WEIGHTS}


class PeerJob(msgspec.Struct, frozen=True, kw_only=True):
    """One way of a peer's to quantize.

    Args:
        job: In `peer_jobs.py`.
        source: File in the model's folder that it starts from.
        settings: Of the job.
    """

    job: str
    source: str
    settings: Mapping[str, str] = {}


PEER_JOBS: Mapping[str, PeerJob] = {
    "onnxruntime_w8a8": PeerJob(job="ort_quantize", source=FLOAT, settings={"method": "MinMax"}),
    "onnxruntime_w4a8": PeerJob(job="ort_quantize", source=FLOAT, settings={"method": "MinMax", "weight_bits": "4"}),
    "onnxruntime_matmul_w4": PeerJob(job="ort_matmul_nbits", source=FLOAT),
    "ai_edge_quantizer_w8a8": PeerJob(job="ai_edge_quantizer", source=FLOAT_TFLITE),
    "ai_edge_quantizer_w4a8": PeerJob(job="ai_edge_quantizer", source=FLOAT_TFLITE, settings={"weight_bits": "4"}),
}


def peer_row(workshop: Workshop, plan: ModelPlan, name: str, python: str) -> Row:
    """What a peer's file of a model comes to; a row with an error when it makes none, or none that runs.

    Args:
        workshop: Has the model prepared.
        plan: The model.
        name: Key of `PEER_JOBS`.
        python: Interpreter with the peers; a process of its own, so that its memory is its own.
    """

    def make() -> Row:
        how = PEER_JOBS[name]
        folder = workshop.folder(plan)
        target = folder / "peers" / f"{name}{Path(how.source).suffix}"
        target.parent.mkdir(exist_ok=True)
        paths = {"input": str(folder / how.source), "calibration": str(folder / CALIBRATION), "output": str(target)}
        with start_peers(python) as peers:
            taken = peers.ask(how.job, **paths, **how.settings)
        if taken is None:
            return Row(error=peers.failure)
        row = workshop.do(plan, "score", files=(str(target),))[0]
        return msgspec.structs.replace(row, wall_s=taken.wall_s, cpu_s=taken.cpu_s, peak_rss_mib=peers.peak_rss_mib)

    return workshop.kept(plan, name, make)


def peer_figures(workshop: Workshop, plan: ModelPlan, python: str) -> dict[str, Figure]:
    """Figures of all quantizing peers on one model."""
    figures: dict[str, Figure] = {}
    for name in PEER_JOBS:
        row = peer_row(workshop, plan, name, python)
        figures |= row_figures(f"{plan.name}.{name}", row, workshop.base_bytes(plan))
    return figures


def nncodec_rows(workshop: Workshop, plan: ModelPlan, peers: Peers, qps: Sequence[int]) -> dict[str, Row]:
    """Rows of NNCodec by form and quantization parameter, with `weight_bytes` for its streams.

    Each form is measured where it crosses the agreement that counts: agreement falls as the step grows, so the place is
    found by bisection.

    Args:
        workshop: Has the model prepared.
        plan: The model.
        peers: Interpreter with NNCodec.
        qps: Quantization parameters, rising; the step grows with them.
    """
    rows: dict[str, Row] = {}
    for form, source in FORMS.items():
        if not (workshop.folder(plan) / source).is_file():
            continue
        low, high = 0, len(qps)  # as if one before the first agreed enough, and one after the last did not
        while low < high:
            middle = (low + high) // 2
            qp = qps[middle]
            name = f"nncodec_{form}_qp_minus_{-qp}"
            row = workshop.kept(
                plan, name, lambda source=source, qp=qp: _nncodec_row(workshop, plan, peers, source, qp)
            )
            if row.scores is None:
                return rows
            rows[name] = row
            if row.scores.agreement[0] >= YARDSTICK_AGREEMENT:
                low = middle + 1
            else:
                high = middle
    return rows


def _nncodec_row(workshop: Workshop, plan: ModelPlan, peers: Peers, source: str, qp: int) -> Row:
    folder = workshop.folder(plan)
    weights, streams, restored = (str(folder / name) for name in (source, "streams.npz", "restored.npz"))
    encoded = peers.ask("nncodec_encode", input=weights, output=streams, qp=str(qp))
    decoded = encoded and peers.ask("nncodec_decode", input=streams, tensors=weights, output=restored)
    if encoded is None or decoded is None:
        return Row(error=peers.failure)
    row = workshop.do(plan, "restore", files=(restored,))[0]
    with np.load(streams) as coded:
        size = sum(coded[name].size for name in coded.files)
    return msgspec.structs.replace(row, weight_bytes=size, wall_s=encoded.wall_s, cpu_s=encoded.cpu_s)


def bytes_at(points: Sequence[tuple[int, float]], percent: float) -> float | None:
    """Bytes at which an agreement is reached, between the smallest point that has it and the next smaller one.

    Args:
        points: Bytes, and agreement in percent.
        percent: The agreement wanted.

    Returns:
        None when no point has it. The smallest one's bytes when none is smaller.

    >>> bytes_at([(400, 97.0), (300, 95.5), (200, 94.5), (100, 60.0)], 95.0)
    250.0
    """
    reaching = [point for point in points if point[1] >= percent]
    if not reaching:
        return None
    upper = min(reaching)
    smaller = [point for point in points if point[0] < upper[0]]
    if not smaller:
        return float(upper[0])
    lower = max(smaller)
    return lower[0] + (upper[0] - lower[0]) * (percent - lower[1]) / (upper[1] - lower[1])


def yardstick_figures(key: str, ours: Mapping[str, Row], theirs: Mapping[str, Row]) -> dict[str, Figure]:
    """NNCodec's bytes at the agreement that counts, and our smallest file that has it, whole.

    Args:
        key: Before every name.
        ours: Rows by setting.
        theirs: Rows of NNCodec.
    """
    figures: dict[str, Figure] = {}
    for name, row in theirs.items():
        figures |= row_figures(f"{key}.{name}", row, None)
    wanted: list[float] = []
    for form in FORMS:
        points = _points({name: row for name, row in theirs.items() if f"_{form}_" in name}, "weight_bytes")
        reached = bytes_at(points, YARDSTICK_AGREEMENT)
        if reached is not None:
            wanted.append(reached)
            figures[f"{key}.nncodec_{form}_bytes_at_95_percent"] = round(reached)
    for name in ("ekz_bytes", "weight_bytes"):
        reaching = [size for size, percent in _points(ours, name) if percent >= YARDSTICK_AGREEMENT]
        best = min(reaching, default=None)
        figures[f"{key}.ours_{name}_at_95_percent"] = best
        if best is not None and wanted:
            smaller = 100 * (1 - best / min(wanted))
            figures[f"{key}.ours_{name}_smaller_than_nncodec_percent"] = round(smaller, 2)
            if name == "ekz_bytes":
                figures[f"{key}.smaller_than_nncodec_is_met"] = smaller >= GOAL_SMALLER_PERCENT
                note(f"{key}: {best:,} bytes at 95 %, NNCodec {min(wanted):,.0f}: {smaller:.1f} % smaller")
    return figures


def _points(rows: Mapping[str, Row], name: str) -> list[tuple[int, float]]:
    sizes = [(getattr(row, name), row.scores) for row in rows.values()]
    return [(size, scores.agreement[0]) for size, scores in sizes if size and scores is not None]
