"""Checks and slicing that every adapter shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError, UsageError
from edgekit.runtime.tensor import TensorSpec

RawArray: TypeAlias = npt.NDArray[Any]


def check_counts(inputs: Sequence[str], outputs: Sequence[str], path: Path, keep_tensors: bool) -> None:
    """Check that a file has one input, and one output unless tensors are kept (then the first is the answer).

    Raises:
        GraphError: Says how many there are, and their names.
    """
    for kind, names in (("input", inputs), ("output", outputs)):
        if len(names) == 1 or (kind == "output" and keep_tensors and names):
            continue
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise GraphError(f"{path} has {len(names)} {kind}s ({shown}), expected one {kind}")


def not_kept(path: Path, last_count: int, slice_size: int | None) -> UsageError:
    """The error of reading a tensor when the last run left none, or only its last slice's."""
    return UsageError(
        f"{path.name}: no tensors to read after a run of {last_count} pictures",
        hint=f"run {'at least one picture' if slice_size is None else slice_size} first",
    )


def check_batch(batch: RawArray, tensor: TensorSpec, path: Path) -> RawArray:
    """Return the batch, contiguous, if it fits the input.

    Raises:
        UsageError: Another type, rank or size; says what was expected.
    """
    expected = tensor.shape[1:]
    if batch.dtype != tensor.dtype or batch.ndim != len(tensor.shape) or batch.shape[1:] != expected:
        raise UsageError(
            f"{path.name}: input {tensor.name!r} takes {tensor.dtype} [n, {', '.join(map(str, expected))}], "
            f"got {batch.dtype} {list(batch.shape)}",
            hint="edgekit.runtime.preprocess.to_input makes the batch a model takes",
        )
    return np.ascontiguousarray(batch)


def run_in_slices(
    batch: RawArray, slice_size: int, output: TensorSpec, run_slice: Callable[[RawArray], RawArray]
) -> RawArray:
    """Run a batch through a model whose batch size is fixed; the last slice is filled up with zeros.

    Args:
        batch: [n, ...].
        slice_size: Pictures that the model takes at once.
        output: Its output, for the shape of an empty batch.
        run_slice: [slice_size, ...] -> [slice_size, ...], free to reuse its output's memory.

    Returns:
        [n, ...].
    """
    num = batch.shape[0]
    if num == 0:
        return np.empty((0, *output.shape[1:]), output.dtype)
    if num == slice_size:  # a picture from a camera: a few steps less count, at 30 times a second
        return np.array(run_slice(batch))
    results: RawArray | None = None
    for start in range(0, num, slice_size):
        part = batch[start : start + slice_size]
        count = part.shape[0]
        if count < slice_size:
            part = np.concatenate([part, np.zeros((slice_size - count, *part.shape[1:]), part.dtype)])
        answer = run_slice(part)
        if results is None:
            results = np.empty((num, *answer.shape[1:]), answer.dtype)
        results[start : start + count] = answer[:count]
    return np.empty((0, *output.shape[1:]), output.dtype) if results is None else results
