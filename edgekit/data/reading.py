"""From a source to batches of one size: slices of what is in memory, a few threads and constant memory for files."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError, UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data.memory import MemorySource
from edgekit.data.source import Batch, PictureSource
from edgekit.runtime.preprocess import fit_picture

Picture: TypeAlias = npt.NDArray[np.uint8]
FitFunction: TypeAlias = Callable[[Picture, PreprocessSpec], Picture]

MAX_UNREADABLE_SHARE = 0.01
NUM_WORKERS = min(8, os.cpu_count() or 1)
"""Threads that read files. Decoding and resizing release Python's lock, so threads are enough."""
_NUM_REASONS_KEPT = 20


class UnreadableLog:
    """Names and counts the pictures that could not be read.

    Attributes:
        num_pictures: How many.
        reasons: One line for each of the first 20, naming the picture.
    """

    def __init__(self) -> None:
        self.num_pictures = 0
        self.reasons: list[str] = []

    def add(self, reason: str) -> None:
        """Count one picture; `reason` names it."""
        self.num_pictures += 1
        if len(self.reasons) < _NUM_REASONS_KEPT:
            self.reasons.append(reason)


def iterate_batches(
    source: PictureSource,
    spec: PreprocessSpec,
    *,
    batch_size: int,
    indices: npt.NDArray[np.int64] | None = None,
    unreadable: UnreadableLog | None = None,
    fit: FitFunction | None = None,
) -> Iterator[Batch]:
    """Read pictures in order, in batches of one size; the last may be smaller.

    An unreadable picture is left out and logged; its place in the batch is taken by the next one. At most two
    batches of pictures are held at any time, whatever the size of the source.

    Args:
        source: Where the pictures come from.
        spec: What the model expects; says the size and the number of channels.
        batch_size: Pictures per batch, at least 1.
        indices: int64 [n], positions in the source, in the order wanted; None for all.
        unreadable: Where unreadable pictures are logged; None when nobody asks.
        fit: Makes uint8 [height, width, channels] of `spec` from a picture; None for `fit_picture`. Called from
            several threads at once.

    Raises:
        UsageError: `batch_size` below 1.
        DataError: More than 1 % of the pictures asked for, and more than one, are unreadable, or all of them. Raised
            as soon as that is certain.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    wanted = np.arange(len(source), dtype=np.int64) if indices is None else indices.astype(np.int64, copy=False)
    if isinstance(source, MemorySource):
        yield from _slice_batches(source, spec, wanted, batch_size, fit)
        return
    pictures = _read_ahead(source, spec, wanted, batch_size, fit or fit_picture)
    yield from _collect_batches(source, wanted, batch_size, pictures, unreadable or UnreadableLog())


def load_into_memory(source: PictureSource) -> MemorySource:
    """Read a whole source of pictures that all have one size, so that later access is free.

    Raises:
        DataError: A picture is unreadable or of another size than the first.
    """
    pictures: Picture | None = None
    with ThreadPoolExecutor(NUM_WORKERS) as workers:
        for index, picture in enumerate(workers.map(source.read, range(len(source)))):
            if pictures is None:
                pictures = np.empty((len(source), *picture.shape), np.uint8)
            if picture.shape != pictures.shape[1:]:
                expected = list(pictures.shape[1:])
                raise DataError(f"{source.name}: picture {index} is {list(picture.shape)}, expected {expected}")
            pictures[index] = picture
    if pictures is None:
        raise DataError(f"{source.name}: no pictures in split {source.split!r}")
    return MemorySource(
        name=source.name, split=source.split, class_names=source.class_names, pictures=pictures, labels=source.labels
    )


def _slice_batches(
    source: MemorySource,
    spec: PreprocessSpec,
    wanted: npt.NDArray[np.int64],
    batch_size: int,
    fit: FitFunction | None,
) -> Iterator[Batch]:
    fits_already = source.pictures.shape[1:] == (*spec.input_size, spec.num_channels) and spec.crop_fraction == 1.0
    for start in range(0, len(wanted), batch_size):
        chosen = wanted[start : start + batch_size]
        pictures = source.pictures[chosen]
        if fit is not None or not fits_already:
            fit_one = fit or fit_picture
            pictures = np.stack([fit_one(picture, spec) for picture in pictures])
        yield Batch(pictures=pictures, labels=None if source.labels is None else source.labels[chosen], indices=chosen)


def _read_ahead(
    source: PictureSource,
    spec: PreprocessSpec,
    wanted: npt.NDArray[np.int64],
    batch_size: int,
    fit: FitFunction,
) -> Iterator[Picture | DataError]:
    """Read pictures in threads, in order, at most one batch ahead; an unreadable one comes as its error."""

    def read_one(index: int) -> Picture | DataError:
        try:
            return fit(source.read(index), spec)
        except DataError as error:
            return error

    workers = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="edgekit-read")
    waiting: deque[Future[Picture | DataError]] = deque()
    try:
        for index in wanted.tolist():
            if len(waiting) >= max(batch_size, 2 * NUM_WORKERS):
                yield waiting.popleft().result()
            waiting.append(workers.submit(read_one, index))
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Also when the consumer stops early: nobody waits for pictures that nobody wants.
        workers.shutdown(cancel_futures=True)


def _collect_batches(
    source: PictureSource,
    wanted: npt.NDArray[np.int64],
    batch_size: int,
    pictures: Iterator[Picture | DataError],
    unreadable: UnreadableLog,
) -> Iterator[Batch]:
    """Put readable pictures together; give up when too many are not."""
    num_tolerated = max(1, int(len(wanted) * MAX_UNREADABLE_SHARE))
    num_unreadable = 0
    held: list[Picture] = []
    positions: list[int] = []
    for index, picture in zip(wanted.tolist(), pictures, strict=True):
        if isinstance(picture, DataError):
            num_unreadable += 1
            unreadable.add(picture.message)
            if num_unreadable > num_tolerated or num_unreadable == len(wanted):
                raise _too_many_error(source, num_unreadable, len(wanted), unreadable)
            continue
        held.append(picture)
        positions.append(index)
        if len(held) == batch_size:
            yield _make_batch(source, held, positions)
            held, positions = [], []
    if held:
        yield _make_batch(source, held, positions)


def _make_batch(source: PictureSource, held: list[Picture], positions: list[int]) -> Batch:
    indices = np.array(positions, dtype=np.int64)
    labels = None if source.labels is None else source.labels[indices]
    return Batch(pictures=np.stack(held), labels=labels, indices=indices)


def _too_many_error(
    source: PictureSource, num_unreadable: int, num_wanted: int, unreadable: UnreadableLog
) -> DataError:
    return DataError(
        f"{source.name}: {num_unreadable} of {num_wanted} pictures are unreadable so far, "
        f"at most {MAX_UNREADABLE_SHARE:.0%} may be; the first: {unreadable.reasons[0]}",
        hint="remove or repair the unreadable pictures",
    )
