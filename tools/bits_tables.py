"""Tables for docs/results.md from what `bench_bits.py` printed.

python tools/bits_tables.py FIGURES.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarking import Figure
from bits_peers import PEER_JOBS
from bits_plan import MODELS, SETTINGS

OURS = ("top-1, %", "agreement, %", "points lost", ".ekz bytes", "of W8A8", "time, s", "memory, MiB", "bars")
THEIRS = ("top-1, %", "agreement, %", "points lost", "file bytes", "as .ekz", "time, s")


def own_table(figures: Mapping[str, Figure]) -> list[str]:
    """Every model in every setting that was measured, and the float model."""
    lines = _head(("model", "setting", *OURS))
    for model in MODELS:
        for setting in ("float", *SETTINGS):
            row = _row(figures, f"{model}.{setting}")
            if row.get("error"):
                lines.append(_line((model, setting, f"{row['error']}", *[""] * (len(OURS) - 1))))
            elif row:
                cells = (
                    _with_interval(row, "top1", "percent"),
                    _with_interval(row, "agreement", "percent"),
                    _with_interval(row, "drop", "points"),
                    _count(row.get("ekz_bytes")),
                    _text(row.get("ekz_ratio_to_w8a8")),
                    _text(row.get("wall_s")),
                    _text(row.get("peak_rss_mib")),
                    _verdict(row),
                )
                lines.append(_line((model, setting, *cells)))
    return lines


def peers_table(figures: Mapping[str, Figure]) -> list[str]:
    """Every model in every way that a peer has."""
    lines = _head(("model", "peer", *THEIRS))
    for model in MODELS:
        for peer in PEER_JOBS:
            row = _row(figures, f"{model}.{peer}")
            if row.get("error"):
                lines.append(_line((model, peer, f"{row['error']}", *[""] * (len(THEIRS) - 1))))
            elif row:
                cells = (
                    _with_interval(row, "top1", "percent"),
                    _with_interval(row, "agreement", "percent"),
                    _with_interval(row, "drop", "points"),
                    _count(row.get("file_bytes")),
                    _count(row.get("ekz_bytes")),
                    _text(row.get("wall_s")),
                )
                lines.append(_line((model, peer, *cells)))
    return lines


def nncodec_table(figures: Mapping[str, Figure]) -> list[str]:
    """NNCodec around the agreement that counts."""
    lines = _head(("model", "weights, parameter", "bytes of the weights", "agreement, %", "points lost"))
    for model in MODELS:
        names = dict.fromkeys(key.split(".")[1] for key in figures if key.startswith(f"{model}.nncodec_"))
        for name in sorted(names):
            row = _row(figures, f"{model}.{name}")
            if row.get("weight_bytes"):
                cells = (_with_interval(row, "agreement", "percent"), _with_interval(row, "drop", "points"))
                lines.append(_line((model, name, _count(row["weight_bytes"]), *cells)))
    return lines


def _row(figures: Mapping[str, Figure], key: str) -> dict[str, Figure]:
    return {name.removeprefix(f"{key}."): value for name, value in figures.items() if name.startswith(f"{key}.")}


def _head(titles: Sequence[str]) -> list[str]:
    return [_line(titles), f"|{'---|' * len(titles)}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _with_interval(row: Mapping[str, Figure], name: str, unit: str) -> str:
    value, low, high = (row.get(f"{name}{suffix}_{unit}") for suffix in ("", "_low", "_high"))
    return "" if value is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _count(value: Figure) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _text(value: Figure) -> str:
    return "" if value is None else f"{value}"


def _verdict(row: Mapping[str, Figure]) -> str:
    names = [name for name in row if name.startswith("bar_")]
    missed = [name.removeprefix("bar_").removesuffix("_is_met") for name in names if not row[name]]
    return f"**missed: {', '.join(missed)}**" if missed else "met" if names else ""


def main(words: Sequence[str]) -> None:
    """Print the tables."""
    figures = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    for table in (own_table, peers_table, nncodec_table):
        print("\n".join(table(figures)), end="\n\n")
    rest = [key for key in figures if ("nncodec" in key and key.count(".") == 1) or "at_95_percent" in key]
    print("\n".join(f"{key}: {figures[key]}" for key in rest))


if __name__ == "__main__":
    main(sys.argv[1:])
