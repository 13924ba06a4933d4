"""ImageNet, ILSVRC 2012 (Russakovsky et al. 2015, arXiv:1409.0575), brought by the user: its terms forbid a download.

Read from `imagenet/{train,val}/<wnid>/*.JPEG`, or from a flat sample `imagenet-sample/NNNN_<wnid>_<name>.jpg`.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.data.dataset import Dataset, Split
from edgekit.data.folder import FolderSource
from edgekit.data.imagenet_folder import is_sample_folder, open_sample_folder, open_wnid_folder
from edgekit.data.locate import cache_dir, data_dirs, missing_folder_error

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_FOLDERS = ("imagenet", "imagenet-sample", "imagenet_sample", "")


def _places() -> list[Path]:
    """Folders to look at; the folders of `$EDGEKIT_DATA` themselves last, for one that is the data set."""
    return [root / folder for folder in _FOLDERS for root in (*data_dirs(), cache_dir())]


def _is_imagenet(folder: Path) -> bool:
    """Say whether a folder has one of the two layouts; any folder with a train/ in it is not enough."""
    return (folder / "val" / "n01440764").is_dir() or is_sample_folder(folder)


def _find() -> Path | None:
    return next((place for place in _places() if _is_imagenet(place)), None)


def _read(split: Split) -> FolderSource:
    folder = _find()
    if folder is None:
        layout = "imagenet/{train,val}/<wnid>/*.JPEG or imagenet-sample/NNNN_<wnid>_<name>.jpg"
        raise missing_folder_error("imagenet", _places(), layout=layout)
    if is_sample_folder(folder):
        return open_sample_folder(folder, split, name="imagenet_sample")
    return open_wnid_folder(folder, split)


DATASET = Dataset(
    name="imagenet",
    title="ImageNet (ILSVRC 2012), 1,000 classes; brought by the user",
    license="non-commercial research only",
    class_names=(),
    num_channels=3,
    native_size=None,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    splits=("train", "calibration", "test"),
    find=_find,
    read=_read,
)
