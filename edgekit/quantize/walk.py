"""Take calibration pictures through a network step by step, keeping on disk how far they have come.

Layers are rounded one after the other, and each looks at all pictures. Without a memory every look would run the whole
network before it. What lives between two nodes is small at most places (after a block of MobileNet V2 it is a tenth of
what it is inside), so it is written to disk there, and the next look starts from it. Memory holds one batch.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgekit.core.errors import OutputError
from edgekit.quantize.network import GraphNetwork

Pictures = Callable[[], Iterable[Tensor]]
"""Gives batches of normalized calibration pictures, float32 [n, c, h, w], anew at every call."""

MAX_BYTES = 512 * 2**20
"""What one walk may keep on disk; where more lives between two nodes, nothing is kept there."""


class Walk:
    """How far calibration pictures have come through one network.

    The network may change after the node that the walk stands at, not before it.

    Args:
        network: Any graph network.
        pictures: Read once; again whenever nothing could be kept so far.
        max_bytes: Most that is kept on disk.

    Raises:
        OutputError: No temporary folder can be made.
    """

    def __init__(self, network: GraphNetwork, pictures: Pictures, max_bytes: int = MAX_BYTES) -> None:
        self.network = network
        self.max_bytes = max_bytes
        self._pictures = pictures
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="edgekit-walk-")
        except OSError as error:
            raise _cannot_keep(tempfile.gettempdir(), error) from error
        self._index: int | None = None
        self._num_batches = 0
        self._num_pictures = 0

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    def before(self, index: int) -> Iterator[dict[str, Tensor]]:
        """The activations that live before a node, batch by batch; where they are small, later walks start there.

        Args:
            index: Of the node; not less than at the call before.

        Raises:
            OutputError: The disk is full.
        """
        first = self._index
        # How many pictures there are is known when they have been seen once.
        keeps = first is None or (index > first and self._bytes_before(index, self._num_pictures) <= self.max_bytes)
        num_batches = num_pictures = 0
        for known, at in self._known():
            with torch.inference_mode():
                values = self.network.run(known, at, index)
            num_pictures += len(next(iter(known.values())))
            if keeps and self._bytes_before(index, num_pictures) > self.max_bytes:
                keeps = False
                self._drop(index)
            if keeps:
                self._keep(values, index, num_batches)
            num_batches += 1
            yield values
        if keeps:
            if first is not None:
                self._drop(first)
            self._index, self._num_batches, self._num_pictures = index, num_batches, num_pictures

    def _known(self) -> Iterator[tuple[dict[str, Tensor], int]]:
        if self._index is None:
            for batch in self._pictures():
                yield self.network.begin(batch), 0
            return
        names = self.network.live_before(self._index)
        for number in range(self._num_batches):
            files = {name: self._file(self._index, number, place) for place, name in enumerate(names)}
            yield {name: _load(path) for name, path in files.items()}, self._index

    def _keep(self, values: dict[str, Tensor], index: int, number: int) -> None:
        for place, name in enumerate(self.network.live_before(index)):
            # Kept in the order in memory: channels last stays channels last.
            array = values[name].numpy()
            if array.ndim == 4:
                array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
            try:
                np.save(self._file(index, number, place), array)
            except OSError as error:
                raise _cannot_keep(self._folder.name, error) from error

    def _drop(self, index: int) -> None:
        for path in Path(self._folder.name).glob(f"{index}-*.npy"):
            path.unlink()

    def _file(self, index: int, number: int, place: int) -> Path:
        return Path(self._folder.name) / f"{index}-{number}-{place}.npy"

    def _bytes_before(self, index: int, num_pictures: int) -> int:
        shapes = self.network.graph.shapes
        return 4 * num_pictures * sum(math.prod(shapes[name]) for name in self.network.live_before(index))


def _load(path: Path) -> Tensor:
    tensor = torch.from_numpy(np.load(path))
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _cannot_keep(folder: str, error: OSError) -> OutputError:
    return OutputError(
        f"{folder}: cannot keep activations of calibration pictures there: {error.strerror or error}",
        hint="free some space, let TMPDIR name a folder on a larger disk, or calibrate with fewer pictures",
    )
