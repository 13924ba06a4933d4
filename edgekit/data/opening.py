"""From a name or a path to pictures: the one way in for every command."""

from __future__ import annotations

from edgekit.data.dataset import DATASETS, Source, Split
from edgekit.data.drawing import draw_indices

NUM_CALIBRATION_PICTURES = 2048
_CALIBRATION_SEED = 0


def open_source(name_or_path: str, split: Split) -> Source:
    """Open one split of a dataset of the catalogue.

    The calibration split is drawn from the training pictures, the same ones every time, unless the dataset keeps
    calibration pictures of its own.

    Raises:
        UnknownNameError: No such dataset.
        DataError: Its files are missing or damaged.
    """
    dataset = DATASETS.load(name_or_path)
    if split in dataset.splits:
        return dataset.read(split)
    train = dataset.read("train")
    indices = draw_indices(NUM_CALIBRATION_PICTURES, len(train), seed=_CALIBRATION_SEED)
    return train.take(indices, split=split)
