"""CIFAR-10 as JPEG files only: the name under which reports show that form, so that it can be asked for by it."""

from __future__ import annotations

from edgekit.data.cifar import CLASS_NAMES, MEAN, STD, find_jpeg_form, jpeg_form_places, read_jpeg_form
from edgekit.data.dataset import Dataset, Split
from edgekit.data.locate import missing_folder_error
from edgekit.data.memory import MemorySource


def _read(split: Split) -> MemorySource:
    path = find_jpeg_form()
    if path is None:
        layout = "cifar10.tar.xz or cifar10/{train,test}/<class>/*.jpg"
        raise missing_folder_error("cifar10_jpeg", jpeg_form_places(), layout=layout)
    return read_jpeg_form(path, split)


DATASET = Dataset(
    name="cifar10_jpeg",
    title="CIFAR-10 encoded as JPEG (lossy: not comparable with published figures)",
    license="none stated",
    class_names=CLASS_NAMES,
    num_channels=3,
    native_size=(32, 32),
    mean=MEAN,
    std=STD,
    find=find_jpeg_form,
    read=_read,
)
