"""Rows of `bench_bits.py`: what one model in one setting came to, which bars it meets, and where rows are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarking import Figure
from bits_plan import ModelPlan, Setting


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How a file answers. Shares in percent with 95 % intervals over pictures, not over crops of them.

    Args:
        top1: Accuracy: value, lower and upper bound (Wilson).
        agreement: With float: likewise.
        drop: Points of top-1 lost against float: value and the bounds of the paired difference.
        num_pictures: Pictures.
        num_views: Answers: crops of all pictures.
    """

    top1: tuple[float, float, float]
    agreement: tuple[float, float, float]
    drop: tuple[float, float, float]
    num_pictures: int
    num_views: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one setting, ours or a peer's.

    Args:
        scores: None when there is no file to measure.
        file_bytes: Of the model file itself (.tflite or .onnx).
        ekz_bytes: Of the file packed; None where it is not packed.
        weight_bytes: What the weights take in the packed file.
        wall_s: Time from the float model to the packed file, without verification and measuring.
        cpu_s: CPU time likewise; None when not measured.
        peak_rss_mib: Largest resident memory until then.
        error: Why there is no file.
    """

    scores: Scores | None = None
    file_bytes: int | None = None
    ekz_bytes: int | None = None
    weight_bytes: int | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_rss_mib: float | None = None
    error: str = ""


def judge(row: Row, model: ModelPlan, setting: Setting, base_bytes: int | None) -> dict[str, bool]:
    """Which bars the row meets, by name; those that do not hold for the model are left out.

    Args:
        row: What was measured.
        model: Of what.
        setting: Its bars.
        base_bytes: The W8A8 `.ekz` of the same model.
    """
    met: dict[str, bool] = {}
    scores = row.scores
    if setting.least_agreement is not None and model.is_sample:
        met["agreement"] = scores is not None and scores.agreement[0] >= setting.least_agreement
    if setting.most_drop is not None and (setting.drops_everywhere or not model.is_sample):
        met["drop"] = scores is not None and scores.drop[0] <= setting.most_drop
    if setting.most_ratio is not None:
        met["size"] = bool(row.ekz_bytes and base_bytes and row.ekz_bytes <= setting.most_ratio * base_bytes)
    return met


def row_figures(key: str, row: Row, base_bytes: int | None) -> dict[str, Figure]:
    """The row, flat.

    Args:
        key: Before every name.
        row: What was measured.
        base_bytes: The W8A8 `.ekz` of the same model; None for no ratio.
    """
    figures: dict[str, Figure] = {}
    if row.scores is not None:
        for name, (value, low, high), unit in (
            ("top1", row.scores.top1, "percent"),
            ("agreement", row.scores.agreement, "percent"),
            ("drop", row.scores.drop, "points"),
        ):
            bounds = {"": value, "_low": low, "_high": high}
            figures |= {f"{key}.{name}{suffix}_{unit}": round(each, 2) for suffix, each in bounds.items()}
    figures[f"{key}.ekz_bytes"] = row.ekz_bytes
    if row.ekz_bytes and base_bytes:
        figures[f"{key}.ekz_ratio_to_w8a8"] = round(row.ekz_bytes / base_bytes, 4)
    figures[f"{key}.file_bytes"] = row.file_bytes
    figures[f"{key}.weight_bytes"] = row.weight_bytes
    for name in ("wall_s", "cpu_s", "peak_rss_mib"):
        value = getattr(row, name)
        figures[f"{key}.{name}"] = None if value is None else round(value, 1)
    if row.error:
        figures[f"{key}.error"] = row.error
    return figures


def describe(row: Row) -> str:
    """One line for people."""
    parts = [f"{row.ekz_bytes or row.file_bytes:,} bytes"] if row.ekz_bytes or row.file_bytes else []
    if row.scores is not None:
        scores = row.scores
        parts += [
            f"top-1 {scores.top1[0]:.2f} %",
            f"agreement {scores.agreement[0]:.2f} %",
            f"{scores.drop[0]:+.2f} points lost",
        ]
    if row.wall_s is not None:
        parts.append(f"{row.wall_s:.0f} s")
    return ", ".join(parts)


def cached(path: Path, make: Callable[[], Row]) -> Row:
    """The row that lies at a path, or a new one, which is put there unless it has an error."""
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=Row)
    row = make()
    if not row.error:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(row)))
        beside.replace(path)
    return row
