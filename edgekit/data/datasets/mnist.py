"""MNIST (LeCun et al. 1998, "Gradient-based learning applied to document recognition"): 70,000 digits, 28x28."""

from __future__ import annotations

from pathlib import Path

from edgekit.data.dataset import Dataset, RemoteFile, Split
from edgekit.data.idx import read_idx_source
from edgekit.data.locate import find_files
from edgekit.data.memory import MemorySource

CLASS_NAMES = tuple("0123456789")
# A mirror: the address in the paper asks for a password since 2023.
_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"

FILES = (
    RemoteFile(
        name="train-images-idx3-ubyte.gz",
        url=f"{_URL}/train-images-idx3-ubyte.gz",
        sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    RemoteFile(
        name="train-labels-idx1-ubyte.gz",
        url=f"{_URL}/train-labels-idx1-ubyte.gz",
        sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    RemoteFile(
        name="t10k-images-idx3-ubyte.gz",
        url=f"{_URL}/t10k-images-idx3-ubyte.gz",
        sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    RemoteFile(
        name="t10k-labels-idx1-ubyte.gz",
        url=f"{_URL}/t10k-labels-idx1-ubyte.gz",
        sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)


def _find() -> Path | None:
    return find_files("mnist", FILES)


def _read(split: Split) -> MemorySource:
    return read_idx_source("mnist", split, CLASS_NAMES, FILES)


DATASET = Dataset(
    name="mnist",
    title="MNIST: 70,000 handwritten digits, 28x28",
    license="CC-BY-SA-3.0",
    class_names=CLASS_NAMES,
    num_channels=1,
    native_size=(28, 28),
    mean=(0.1307,),
    std=(0.3081,),
    files=FILES,
    find=_find,
    read=_read,
)
