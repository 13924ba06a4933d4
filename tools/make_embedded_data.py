"""Make the embedded dataset and the README's pictures from Fashion-MNIST, the same bytes every time.

    EDGEKIT_DATA=../shared/data python tools/make_embedded_data.py [--out FOLDER]

Prints one JSON document. Pictures come from the 10,000 test pictures only (see
`edgekit/data/datasets/fashion_mnist_mini.py`). Of every class, in the order of `draw_order`: 200 for testing, then 51
or 52 for calibration, then one for the README, for six of the classes. Raw pixels under LZMA came out smallest: the
same under zlib is 16 % larger, and after PNG-like prediction (left, up, mean, Paeth, MED) 1 to 12 %, because most
pixels are exactly 0 and textures repeat.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.core.storage import write_bytes
from edgekit.data.drawing import draw_order
from edgekit.data.memory import MemorySource
from edgekit.data.opening import open_source

NUM_TEST_PER_CLASS = 200
NUM_CALIBRATION = 512
SEED = 20_170_828
README_CLASSES = ("T-shirt/top", "Trouser", "Dress", "Sandal", "Bag", "Ankle boot")
XZ_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]

Indices = npt.NDArray[np.int64]


def draw_parts(labels: Indices, num_classes: int) -> tuple[Indices, Indices, dict[int, int]]:
    """Draw the parts: indices of test pictures, of calibration pictures, and one index per class for the README."""
    test: list[Indices] = []
    calibration: list[Indices] = []
    spare: dict[int, int] = {}
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)
        members = members[draw_order(len(members), seed=SEED + label)]
        num_calibration = NUM_CALIBRATION // num_classes + (label < NUM_CALIBRATION % num_classes)
        end = NUM_TEST_PER_CLASS + num_calibration
        test.append(members[:NUM_TEST_PER_CLASS])
        calibration.append(members[NUM_TEST_PER_CLASS:end])
        spare[label] = int(members[end])
    return _mixed(test), _mixed(calibration), spare


def _mixed(parts: list[Indices]) -> Indices:
    """Mix the classes, so that the first pictures of a part are a fair draw, too."""
    indices = np.concatenate(parts)
    return indices[draw_order(len(indices), seed=SEED)]


def pack(source: MemorySource, parts: dict[str, Indices]) -> bytes:
    """Pack the parts into the bytes of an uncompressed .npz, whose pictures are xz streams."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for split, indices in parts.items():
        part = source.take(indices, split=split)
        packed = lzma.compress(part.pictures.tobytes(), format=lzma.FORMAT_XZ, filters=XZ_FILTERS)
        arrays[f"{split}_pictures_xz"] = np.frombuffer(packed, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(part.labels, dtype=np.uint8)
        arrays[f"{split}_t10k_indices"] = indices.astype(np.uint16)
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def write_readme_pictures(source: MemorySource, spare: dict[int, int], folder: Path) -> list[Path]:
    """Write one PNG per class of `README_CLASSES`, named after it."""
    paths: list[Path] = []
    for class_name in README_CLASSES:
        picture = source.read(spare[source.class_names.index(class_name)])
        path = folder / f"{class_name.lower().replace('/', '_').replace(' ', '_')}.png"
        write_bytes(path, cv2.imencode(".png", picture)[1].tobytes())
        paths.append(path)
    return paths


def main() -> None:
    """Write everything below `--out`, by default the repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    out_dir: Path = parser.parse_args().out
    source = open_source("fashion_mnist", "test")
    if not isinstance(source, MemorySource) or source.labels is None:
        raise TypeError("Fashion-MNIST is a labelled set in memory")
    test, calibration, spare = draw_parts(source.labels, len(source.class_names))
    content = pack(source, {"test": test, "calibration": calibration})
    write_bytes(out_dir / "edgekit" / "data" / "embedded" / "fashion_mnist_mini.npz", content)
    pictures = write_readme_pictures(source, spare, out_dir / "docs" / "pictures")
    summary = {
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "num_test": len(test),
        "num_calibration": len(calibration),
        "pictures": [path.name for path in pictures],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
