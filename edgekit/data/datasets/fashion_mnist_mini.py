"""The embedded dataset: 2,000 test and 512 calibration pictures of Fashion-MNIST, so that the main job needs no data.

All of them come from Fashion-MNIST's 10,000 test pictures, because the embedded weights are trained on all 60,000
training pictures; the two parts share none. `tools/make_embedded_data.py` drew them, by class, with a seed. The
pictures are real and the draw is fair, but a figure on 2,000 pictures has a 95 % interval of about one point.
"""

from __future__ import annotations

import io
import lzma
import zipfile
from pathlib import Path

import numpy as np

from edgekit.core.errors import DataError
from edgekit.data.dataset import Dataset, Split
from edgekit.data.datasets.fashion_mnist import CLASS_NAMES, MEAN, STD
from edgekit.data.memory import MemorySource

_SIZE = 28


def embedded_path() -> Path:
    """The file in the package."""
    return Path(__file__).resolve().parent.parent / "embedded" / "fashion_mnist_mini.npz"


def _find() -> Path | None:
    path = embedded_path()
    return path if path.is_file() else None


def _read(split: Split) -> MemorySource:
    path = embedded_path()
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            pixels = lzma.decompress(archive[f"{split}_pictures_xz"].tobytes())
            labels = archive[f"{split}_labels"].astype(np.int64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise DataError(f"the embedded dataset {path} is damaged: {error}", hint="install edgekit again") from error
    return MemorySource(
        name="fashion_mnist_mini",
        split=split,
        class_names=CLASS_NAMES,
        pictures=np.frombuffer(pixels, dtype=np.uint8).reshape(-1, _SIZE, _SIZE, 1).copy(),
        labels=labels,
    )


DATASET = Dataset(
    name="fashion_mnist_mini",
    title="Fashion-MNIST, the embedded part: 2,000 test and 512 calibration pictures, 28x28",
    license="MIT",
    class_names=CLASS_NAMES,
    num_channels=1,
    native_size=(_SIZE, _SIZE),
    mean=MEAN,
    std=STD,
    splits=("calibration", "test"),
    find=_find,
    read=_read,
)
