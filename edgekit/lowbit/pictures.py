"""Which pictures a quantized network is trained on."""

from __future__ import annotations

from edgekit.core.errors import DataError, UnknownNameError
from edgekit.data.dataset import Source
from edgekit.data.opening import find_dataset, open_source


def find_pictures(names: tuple[str | None, ...], otherwise: Source) -> Source:
    """The training pictures of the first of some datasets that lies on this machine; nothing is downloaded.

    They need no labels, as long as the float network alone is the teacher.

    Args:
        names: Datasets or folders, the most wanted first; None is passed over.
        otherwise: What is taken when none is here: the pictures of calibration, a few hundred, help already.
    """
    for name in names:
        if name is None:
            continue
        try:
            dataset = find_dataset(name)
            if dataset.find() is not None and "train" in dataset.splits:
                return open_source(name, "train")
        except (DataError, UnknownNameError):
            continue
    return otherwise
