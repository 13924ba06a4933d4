"""Tables for docs/results.md from what `bench_bits.py` printed.

python tools/bits_tables.py FIGURES.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarking import Figure
from bits_peers import PEER_JOBS
from bits_plan import MODELS, SETTINGS

OURS = ("top-1, %", "agreement, %", "points lost", ".ekz bytes", "of W8A8", "time, s", "memory, MiB", "bars")
THEIRS = ("top-1, %", "agreement, %", "points lost", "file bytes", "as .ekz", "time, s")


def own_table(figures: Mapping[str, Figure]) -> list[str]:
    """Every model in every setting that was measured, and the float model."""

    def cells(row: Mapping[str, Figure]) -> Sequence[str]:
        cost = (_text(row.get(name)) for name in ("ekz_ratio_to_w8a8", "wall_s", "peak_rss_mib"))
        return (*_quality(row), _count(row.get("ekz_bytes")), *cost, _verdict(row))

    return _table(figures, ("setting", *OURS), ("float", *SETTINGS), cells)


def peers_table(figures: Mapping[str, Figure]) -> list[str]:
    """Every model in every way that a peer has."""

    def cells(row: Mapping[str, Figure]) -> Sequence[str]:
        sizes = (_count(row.get(name)) for name in ("file_bytes", "ekz_bytes"))
        return (*_quality(row), *sizes, _text(row.get("wall_s")))

    return _table(figures, ("peer", *THEIRS), tuple(PEER_JOBS), cells)


def _table(
    figures: Mapping[str, Figure],
    titles: Sequence[str],
    ways: Sequence[str],
    cells: Callable[[Mapping[str, Figure]], Sequence[str]],
) -> list[str]:
    """Every model in every way that was measured; what failed with its error."""
    lines = _head(("model", *titles))
    for model in MODELS:
        for way in ways:
            row = _row(figures, f"{model}.{way}")
            if row.get("error"):
                lines.append(_line((model, way, f"{row['error']}", *[""] * (len(titles) - 2))))
            elif row:
                lines.append(_line((model, way, *cells(row))))
    return lines


def _quality(row: Mapping[str, Figure]) -> tuple[str, ...]:
    units = {"top1": "percent", "agreement": "percent", "drop": "points"}
    return tuple(_with_interval(row, name, unit) for name, unit in units.items())


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
