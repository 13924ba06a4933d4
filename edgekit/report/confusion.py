"""A confusion matrix made readable: rates per class, heat-map cells, and the pairs most often confused.

Rows of the matrix are right answers, columns are answers given.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

MAX_MATRIX_CLASSES = 30
"""Above this many classes a heat-map of counts is unreadable, and lists take its place."""

_NUM_LISTED = 20


class ClassRates(msgspec.Struct, frozen=True, kw_only=True):
    """How one class fares.

    Args:
        name: Class name.
        num_pictures: Pictures of this class.
        num_answers: Pictures given this answer.
        num_right: Pictures of this class given this answer.
        recall: num_right / num_pictures; None when there are none.
        precision: num_right / num_answers; None when it was never answered.
    """

    name: str
    num_pictures: int
    num_answers: int
    num_right: int
    recall: float | None
    precision: float | None


class ConfusedPair(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of one class answered as another.

    Args:
        label: Right answer.
        answer: Answer given.
        count: Pictures.
        share: count / pictures of the right class.
    """

    label: str
    answer: str
    count: int
    share: float


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of the heat-map.

    Args:
        count: Pictures.
        share: count / pictures of the row's class, 0..1.
        right: Whether the cell is on the diagonal.
    """

    count: int
    share: float
    right: bool


class ConfusionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows of a confusion matrix.

    Args:
        classes: Rates in label order.
        cells: Rows of the heat-map; empty above `MAX_MATRIX_CLASSES` classes.
        pairs: The pairs most often confused, most first; at most 20.
        weakest: The classes with the lowest recall, lowest first; at most 20, those at 100 % left out.
    """

    classes: tuple[ClassRates, ...]
    cells: tuple[tuple[Cell, ...], ...]
    pairs: tuple[ConfusedPair, ...]
    weakest: tuple[ClassRates, ...]


def summarize_confusion(
    matrix: Sequence[Sequence[int]],
    class_names: Sequence[str],
    rates: Sequence[tuple[float | None, float | None]] | None = None,
) -> ConfusionSummary:
    """Summarize a square matrix of counts. Classes without a name are called by their index.

    Args:
        matrix: Rows: right class, columns: answer.
        class_names: In label order.
        rates: Recall and precision of each class, where they are known better than the counts tell them; else None.
    """
    names = [class_names[i] if i < len(class_names) else f"class {i}" for i in range(len(matrix))]
    row_sums = [sum(row) for row in matrix]
    column_sums = [sum(column) for column in zip(*matrix, strict=True)]
    classes = tuple(
        ClassRates(
            name=name,
            num_pictures=row_sums[i],
            num_answers=column_sums[i],
            num_right=matrix[i][i],
            recall=rates[i][0] if rates else _share(matrix[i][i], row_sums[i]),
            precision=rates[i][1] if rates else _share(matrix[i][i], column_sums[i]),
        )
        for i, name in enumerate(names)
    )
    shown = matrix if len(matrix) <= MAX_MATRIX_CLASSES else ()
    cells = tuple(
        tuple(Cell(count=count, share=_share(count, row_sums[i]) or 0.0, right=i == j) for j, count in enumerate(row))
        for i, row in enumerate(shown)
    )
    return ConfusionSummary(
        classes=classes, cells=cells, pairs=_confused_pairs(matrix, names, row_sums), weakest=_weakest(classes)
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _confused_pairs(
    matrix: Sequence[Sequence[int]], names: Sequence[str], row_sums: Sequence[int]
) -> tuple[ConfusedPair, ...]:
    wrong = [(count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if count and i != j]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    return tuple(
        ConfusedPair(label=names[i], answer=names[j], count=count, share=count / row_sums[i])
        for count, i, j in wrong[:_NUM_LISTED]
    )


def _weakest(classes: Sequence[ClassRates]) -> tuple[ClassRates, ...]:
    missed = [rates for rates in classes if rates.recall is not None and rates.recall < 1.0]
    missed.sort(key=lambda rates: (rates.recall or 0.0, -rates.num_pictures))
    return tuple(missed[:_NUM_LISTED])
