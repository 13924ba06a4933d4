"""A PNG that shows what is in a dataset: some pictures of every class, with its name and how many there are."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from edgekit.core.errors import DataError
from edgekit.core.storage import write_bytes
from edgekit.data.drawing import draw_order
from edgekit.data.source import PictureSource

Picture = npt.NDArray[np.uint8]

MAX_ROWS = 40
"""Classes on one sheet; the others are counted below it."""
_CELL = 96
_GAP = 6
_MIN_COLUMNS = 2
_LABEL_WIDTH = 230
_MARGIN = 24
_HEADER_HEIGHT = 64
_DPI = 100
_PAPER = 250
_INK = "#1c2126"
_FAINT = "#69727c"
_MAX_NAME_LENGTH = 26


def draw_contact_sheet(source: PictureSource, path: Path, num_per_class: int = 8) -> None:
    """Draw a contact sheet as a PNG, the same one every time.

    One row per class (at most 40) with its name, its number of pictures and `num_per_class` of them, whole, not
    cropped. Without labels, eight rows of pictures. Unreadable pictures are passed over.

    Raises:
        DataError: No picture can be read.
        OutputError: The file cannot be written.
    """
    rows, footer = _choose_rows(source, num_per_class)
    pictures = [_read_some(source, indices, num_per_class) for _, _, indices in rows]
    if not any(pictures):
        raise DataError(f"{source.name}: no picture of split {source.split!r} can be read")
    label_width = _LABEL_WIDTH if source.labels is not None else 0
    num_columns = max(_MIN_COLUMNS, *map(len, pictures))
    width = 2 * _MARGIN + label_width + num_columns * (_CELL + _GAP) - _GAP
    height = _MARGIN + _HEADER_HEIGHT + len(rows) * (_CELL + _GAP) + (_MARGIN if footer else 0) + _MARGIN - _GAP
    canvas = np.full((height, width, 3), _PAPER, np.uint8)
    for row, found in enumerate(pictures):
        top = _MARGIN + _HEADER_HEIGHT + row * (_CELL + _GAP)
        for column, picture in enumerate(found):
            left = _MARGIN + label_width + column * (_CELL + _GAP)
            canvas[top : top + _CELL, left : left + _CELL] = _thumbnail(picture)
    write_bytes(path, _render(canvas, source, [(name, count) for name, count, _ in rows], footer))


def _choose_rows(source: PictureSource, num_per_class: int) -> tuple[list[tuple[str, int, npt.NDArray[np.int64]]], str]:
    """Choose the rows, as (name, count, candidate indices), and the line below them."""
    order = draw_order(len(source), seed=0)
    if source.labels is None:
        num_rows = min(8, max(1, -(-len(order) // num_per_class)))
        return [("", 0, order[row::num_rows]) for row in range(num_rows)], ""
    labels = source.labels[order]
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    present = np.flatnonzero(counts)
    rows = [(source.class_names[label], int(counts[label]), order[labels == label]) for label in present[:MAX_ROWS]]
    notes: list[str] = []
    if len(present) > MAX_ROWS:
        notes.append(f"and {len(present) - MAX_ROWS} more classes")
    if len(present) < len(counts):
        notes.append(f"{len(counts) - len(present)} classes have no picture here")
    return rows, "; ".join(notes)


def _read_some(source: PictureSource, indices: npt.NDArray[np.int64], num_pictures: int) -> list[Picture]:
    """Read the first readable pictures among `indices`; gives up after twice as many tries."""
    found: list[Picture] = []
    for index in indices[: 2 * num_pictures].tolist():
        if len(found) == num_pictures:
            break
        try:
            found.append(source.read(index))
        except DataError:
            continue
    return found


def _thumbnail(picture: Picture) -> Picture:
    """Fit a whole picture into a cell; small ones are enlarged a whole number of times, so that pixels stay square."""
    height, width = picture.shape[:2]
    scale = _CELL / max(height, width)
    scale = float(int(scale)) if scale > 1 else scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    filter_id = cv2.INTER_NEAREST if scale >= 1 else cv2.INTER_AREA
    fitted = np.reshape(cv2.resize(picture, size, interpolation=filter_id), (size[1], size[0], -1))
    cell = np.full((_CELL, _CELL, 3), _PAPER, np.uint8)
    top, left = (_CELL - size[1]) // 2, (_CELL - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = fitted
    return cell


def _render(canvas: Picture, source: PictureSource, rows: list[tuple[str, int]], footer: str) -> bytes:
    """Write the texts over the canvas and return the PNG."""
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    figure.figimage(canvas, origin="upper")

    def write(y: float, text: str, *, size: float, color: str = _INK, right: int = width) -> None:
        # parse_math off: a class may be called "$5". Clipped, because letters of some scripts are very wide.
        label = figure.text(_MARGIN / width, 1 - y / height, text, fontsize=size, color=color, va="center")
        label.set_parse_math(False)
        label.set_clip_box(Bbox.from_extents(0, 0, right, height))
        label.set_clip_on(True)

    write(_MARGIN + 10, _shorten(f"{source.name}, {source.split}", width // 11), size=14)
    num_classes = f" in {len(source.class_names):,} classes" if source.class_names else ", no labels"
    write(_MARGIN + 34, f"{len(source):,} pictures{num_classes}", size=10, color=_FAINT)
    for row, (name, count) in enumerate(rows):
        if not name:
            continue
        middle = _MARGIN + _HEADER_HEIGHT + row * (_CELL + _GAP) + _CELL / 2
        write(middle - 9, _shorten(name, _MAX_NAME_LENGTH), size=11, right=_MARGIN + _LABEL_WIDTH - _GAP)
        write(middle + 11, f"{count:,}", size=9.5, color=_FAINT)
    if footer:
        write(height - _MARGIN, footer, size=10, color=_FAINT)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; a warning per letter would help nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
