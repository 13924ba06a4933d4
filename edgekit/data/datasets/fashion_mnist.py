"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 70,000 gray pictures of clothes, 28x28, ten classes."""

from __future__ import annotations

from pathlib import Path

from edgekit.data.dataset import Dataset, RemoteFile, Split
from edgekit.data.idx import read_idx_source
from edgekit.data.locate import find_files
from edgekit.data.memory import MemorySource

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MEAN = (0.2860,)
STD = (0.3530,)
_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

FILES = (
    RemoteFile(
        name="train-images-idx3-ubyte.gz",
        url=f"{_URL}/train-images-idx3-ubyte.gz",
        sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        other_sha256=("b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",),
    ),
    RemoteFile(
        name="train-labels-idx1-ubyte.gz",
        url=f"{_URL}/train-labels-idx1-ubyte.gz",
        sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        other_sha256=("0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",),
    ),
    RemoteFile(
        name="t10k-images-idx3-ubyte.gz",
        url=f"{_URL}/t10k-images-idx3-ubyte.gz",
        sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        other_sha256=("cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",),
    ),
    RemoteFile(
        name="t10k-labels-idx1-ubyte.gz",
        url=f"{_URL}/t10k-labels-idx1-ubyte.gz",
        sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        other_sha256=("8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",),
    ),
)


def _find() -> Path | None:
    return find_files("fashion_mnist", FILES)


def _read(split: Split) -> MemorySource:
    return read_idx_source("fashion_mnist", split, CLASS_NAMES, FILES)


DATASET = Dataset(
    name="fashion_mnist",
    title="Fashion-MNIST: 70,000 gray pictures of clothes, 28x28",
    license="MIT",
    class_names=CLASS_NAMES,
    num_channels=1,
    native_size=(28, 28),
    mean=MEAN,
    std=STD,
    files=FILES,
    find=_find,
    read=_read,
)
