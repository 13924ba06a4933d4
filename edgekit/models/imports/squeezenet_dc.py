"""The published file of Deep Compression: SqueezeNet 1.0, pruned and shared, 675,763 bytes.

Han et al. 2016, arXiv:1510.00149; `compressed_SqueezeNet.net` of the repository songhan/SqueezeNet-Deep-Compression.
Little-endian, without padding: the number of stored symbols of each of the 26 convolutions, uint32; then per layer a
codebook (256 float32, the first 0), the biases (float32), a symbol per stored weight (uint8), and the gap before each
(4 bits, two to a byte, the low nibble first). Weights are in OIHW order; what is not stored is 0. A gap of 15 that
ends on symbol 0 is a filler: the next weight lies further away than 4 bits can say.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekit.core.errors import IntegrityError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard
from edgekit.models.importer import Imported, Importer
from edgekit.models.weights import read_imagenet_labels
from edgekit.models.zoo import build_model

INPUT_SIZE = 227
NUM_LAYERS = 26
NUM_CENTROIDS = 256
MEAN_BGR = (104.0, 117.0, 123.0)
"""Caffe's channel means, subtracted from BGR pixels of 0..255 that are not scaled."""

OPTIONS = BuildOptions(variant="squeezenet1_0", num_classes=1000, input_size=INPUT_SIZE)
SPEC = PreprocessSpec(
    input_size=(INPUT_SIZE, INPUT_SIZE),
    mean=tuple(mean / 255 for mean in reversed(MEAN_BGR)),
    std=(1 / 255,) * 3,
    crop_fraction=INPUT_SIZE / 256,
)


def read(content: bytes) -> Imported:
    """Decode the file into the weights of our `squeezenet1_0`, RGB input.

    Raises:
        IntegrityError: The sizes or positions in it do not fit SqueezeNet 1.0.
    """
    shapes = {name: tuple(t.shape) for name, t in build_model(OPTIONS).state_dict().items() if name.endswith("weight")}
    reader = _Reader(content)
    counts = reader.take(np.dtype("<u4"), NUM_LAYERS, "symbol counts")
    state: dict[str, Tensor] = {}
    for (name, shape), count in zip(shapes.items(), counts.tolist(), strict=True):
        state[name], state[name.removesuffix("weight") + "bias"] = _read_layer(reader, name, shape, count)
    if reader.offset != len(content):
        raise IntegrityError(f"{len(content) - reader.offset} bytes follow the last layer of a Deep Compression file")
    first = next(iter(shapes))
    state[first] = state[first].flip(1).contiguous()  # BGR to RGB
    return Imported(state=state, card=_card())


class _Reader:
    """Takes arrays off the front of a buffer."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.offset = 0

    def take(self, dtype: np.dtype[np.generic], count: int, what: str) -> npt.NDArray[np.generic]:
        size = dtype.itemsize * count
        if self.offset + size > len(self.content):
            raise IntegrityError(
                f"the Deep Compression file ends at byte {len(self.content)}, in {what} "
                f"(bytes {self.offset} to {self.offset + size})",
                hint="is it compressed_SqueezeNet.net, whole?",
            )
        taken = np.frombuffer(self.content, dtype, count, self.offset)
        self.offset += size
        return taken


def _read_layer(reader: _Reader, name: str, shape: tuple[int, ...], count: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of one layer."""
    size = int(np.prod(shape))
    if count > size:
        raise IntegrityError(f"layer {name} has {size} weights, the file stores {count}")
    codebook = reader.take(np.dtype("<f4"), NUM_CENTROIDS, f"the codebook of {name}")
    bias = reader.take(np.dtype("<f4"), shape[0], f"the biases of {name}")
    symbols = reader.take(np.dtype("u1"), count, f"the symbols of {name}")
    pairs = reader.take(np.dtype("u1"), (count + 1) // 2, f"the gaps of {name}").astype(np.int64)
    gaps = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)[:count]
    positions = np.cumsum(gaps + 1) - 1
    if count and positions[-1] >= size:
        raise IntegrityError(f"the gaps of {name} lead to weight {positions[-1]} of {size}")
    weight = np.zeros(size, np.float32)
    weight[positions] = codebook[symbols.astype(np.intp)]
    return torch.from_numpy(weight.reshape(shape)), torch.from_numpy(bias.astype(np.float32))


def _card() -> CheckpointCard:
    return CheckpointCard(
        options=OPTIONS,
        labels=read_imagenet_labels(),
        preprocess=SPEC,
        dataset="imagenet",
        num_epochs=0,
        command="edgekit import squeezenet-dc compressed_SqueezeNet.net",
    )


IMPORTER = Importer(
    title="SqueezeNet 1.0 of the Deep Compression authors",
    source="compressed_SqueezeNet.net of songhan/SqueezeNet-Deep-Compression (BSD)",
    read=read,
)
