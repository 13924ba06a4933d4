"""Pictures to model input: the one code that training, calibration, evaluation and the board share."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError, GraphError, UsageError
from edgekit.core.frame import ColorOrder
from edgekit.core.preprocessing import Interpolation, PreprocessSpec
from edgekit.core.quant import QuantParams
from edgekit.runtime.reading import Picture, decode_picture, read_picture
from edgekit.runtime.tensor import TensorSpec

__all__ = ["Picture", "decode_picture", "fit_picture", "normalize", "read_picture", "to_input"]

InputArray: TypeAlias = npt.NDArray[Any]

_FILTERS: dict[Interpolation, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


def fit_picture(picture: Picture, spec: PreprocessSpec, *, color_order: ColorOrder = "rgb") -> Picture:
    """Crop and resize one picture to the model's input size, without distorting it.

    The largest centred window with the input's aspect ratio is shrunk by `crop_fraction`, cut out, and resized to
    `input_size`. For a square input that is "resize the short side to input / crop_fraction, cut the centre", but the
    pixels that fall outside are never touched. While the window is more than twice the input, it is halved by 2x2
    means (a single filter would skip pixels); then the named filter does the rest.

    Args:
        picture: uint8 [height, width, 3 or 1 (gray)].
        spec: What the model expects.
        color_order: Order of the picture's three channels; cameras give "bgr". Swapping the few pixels that are left
            is cheaper than swapping the frame, and the same: every channel is resized alone.

    Returns:
        uint8 [*spec.input_size, spec.num_channels], RGB, contiguous. Gray is repeated for a model that wants RGB,
        color is weighted to gray (ITU-R BT.601) for one that wants gray.

    Raises:
        DataError: No picture array, or 0 pixels.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3) or picture.size == 0:
        raise DataError(
            f"picture is {picture.dtype} {list(picture.shape)}, expected uint8 [height, width, 3 or 1] with pixels"
        )
    height, width = spec.input_size
    rows, columns, num_halvings = _centre_window(picture.shape[0], picture.shape[1], spec)
    window = picture[rows, columns]
    if spec.num_channels == 1 and window.shape[2] == 3:
        code = cv2.COLOR_BGR2GRAY if color_order == "bgr" else cv2.COLOR_RGB2GRAY
        window = cast("Picture", cv2.cvtColor(window, code))
    for _ in range(num_halvings):
        half = (window.shape[1] // 2, window.shape[0] // 2)
        window = cast("Picture", cv2.resize(window, half, interpolation=cv2.INTER_AREA))
    if window.shape[:2] != (height, width):
        window = cast("Picture", cv2.resize(window, (width, height), interpolation=_FILTERS[spec.interpolation]))
    if color_order == "bgr" and window.ndim == 3 and window.shape[2] == 3:
        window = cast("Picture", cv2.cvtColor(window, cv2.COLOR_BGR2RGB))
    window = np.reshape(window, (height, width, -1))  # OpenCV drops a channel dimension of 1
    if window.shape[2] != spec.num_channels:
        window = np.repeat(window, spec.num_channels, axis=2)
    return np.ascontiguousarray(window)


def normalize(pictures: Picture, spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """Map pixels to what the network was trained on: `(picture / 255 - mean) / std`, per channel.

    Args:
        pictures: uint8 [n, height, width, channels], as `fit_picture` makes them.
        spec: What the model expects.

    Returns:
        float32 [n, channels, height, width], contiguous. Each value is rounded once, from float64.

    Raises:
        DataError: Wrong type, rank or number of channels.
    """
    _check_pictures(pictures, spec)
    num, height, width, channels = pictures.shape
    table = _float_table(spec)
    if channels == 1:
        return np.reshape(_look_up(pictures, table), (num, 1, height, width))
    normalized = np.empty((num, channels, height, width), np.float32)
    rows = [np.ascontiguousarray(table[:, channel]) for channel in range(channels)]
    for index in range(num):
        for channel, row in enumerate(rows):
            # Per plane: a three-channel table look-up and a transposition take 1.8 times as long.
            plane = cast("Picture", cv2.extractChannel(pictures[index], channel))
            cv2.LUT(plane, row, normalized[index, channel])
    return normalized


def to_input(pictures: Picture, spec: PreprocessSpec, tensor: TensorSpec) -> InputArray:
    """Make the batch that a model's input tensor takes, in its own type and layout.

    A quantized input goes through a table of 256 entries per channel, which is exactly the model's own quantization
    of `normalize`'s values: no float picture is ever made. An unsigned input without a grid takes pixels as they are.

    Args:
        pictures: uint8 [n, height, width, channels], as `fit_picture` makes them.
        spec: What the model expects.
        tensor: Its input.

    Returns:
        [n, ...] in `tensor.dtype` and `tensor.layout`, contiguous. May share memory with `pictures`.

    Raises:
        DataError: Wrong type, rank or number of channels.
        UsageError: The pictures' size is not the tensor's.
        GraphError: An int8 input without scale and zero-point.
    """
    _check_pictures(pictures, spec)
    if pictures.shape[1:] != tensor.image_shape:
        raise UsageError(
            f"input {tensor.name!r} takes [height, width, channels] {list(tensor.image_shape)}, "
            f"got pictures of {list(pictures.shape[1:])}",
            hint="the preprocessing's input_size must be the model's",
        )
    if tensor.dtype == "float32" and tensor.layout == "NCHW":
        return normalize(pictures, spec)
    table = _input_table(spec, tensor)
    values: InputArray = pictures if table is None else _look_up(pictures, table)
    if tensor.layout == "NCHW":
        values = np.transpose(values, (0, 3, 1, 2))
    return np.ascontiguousarray(values)


@functools.lru_cache(maxsize=64)
def _centre_window(height: int, width: int, spec: PreprocessSpec) -> tuple[slice, slice, int]:
    """Rows and columns to keep, and how often the window is halved.

    The window's sides are multiples of 2^halvings, so that each halving is an exact 2x2 mean; that moves an edge by
    less than half a pixel of the input.
    """
    target_height, target_width = spec.input_size
    shrink = min(height / target_height, width / target_width) * spec.crop_fraction
    num_halvings = 0
    while shrink > 2 << num_halvings:
        num_halvings += 1
    step = 1 << num_halvings
    sides: list[slice] = []
    for available, target in ((height, target_height), (width, target_width)):
        side = max(1, round(shrink * target / step)) * step
        side = min(side, available // step * step)
        start = (available - side) // 2
        sides.append(slice(start, start + side))
    return sides[0], sides[1], num_halvings


def _check_pictures(pictures: Picture, spec: PreprocessSpec) -> None:
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != spec.num_channels:
        raise DataError(
            f"pictures are {pictures.dtype} {list(pictures.shape)}, "
            f"expected uint8 [n, height, width, {spec.num_channels}]"
        )


@functools.lru_cache(maxsize=64)
def _float_table(spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """Normalized value of every pixel value: float32 [256, channels]."""
    if len(spec.mean) != spec.num_channels or len(spec.std) != spec.num_channels or 0.0 in spec.std:
        raise UsageError(
            f"preprocessing has mean {spec.mean} and std {spec.std}, expected {spec.num_channels} of each, no std of 0"
        )
    levels = np.arange(256, dtype=np.float64)[:, np.newaxis] / 255
    table = ((levels - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32)
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=64)
def _input_table(spec: PreprocessSpec, tensor: TensorSpec) -> InputArray | None:
    """Input element of every pixel value: [256, channels]; None when it is the pixel itself."""
    table: InputArray = _float_table(spec)
    if tensor.dtype in ("float32", "float16"):
        return table.astype(tensor.dtype)
    if tensor.scale is None or tensor.zero_point is None:
        if tensor.dtype == "int8":
            raise GraphError(f"input {tensor.name!r} is int8 without scale and zero-point")
        return None
    params = QuantParams(
        scale=np.array([tensor.scale], np.float32),
        zero_point=np.array([tensor.zero_point], np.int32),
        signed=tensor.dtype == "int8",
    )
    table = params.quantize(table).astype(tensor.dtype)
    if tensor.dtype == "uint8" and bool((table == np.arange(256)[:, np.newaxis]).all()):
        return None
    table.flags.writeable = False
    return table


def _look_up(pictures: Picture, table: InputArray) -> InputArray:
    """`table[pixel, channel]` for every pixel; one table for all channels when they agree, which is faster."""
    num, height, width, channels = pictures.shape
    if pictures.size == 0:
        return np.empty(pictures.shape, table.dtype)
    if table.dtype == np.float16:  # which OpenCV's table look-up does not take everywhere
        return table[pictures, np.arange(channels)]
    looked_up: InputArray
    if channels == 1 or bool((table == table[:, :1]).all()):
        flat = np.reshape(pictures, (num * height, width * channels))
        looked_up = cv2.LUT(flat, np.ascontiguousarray(table[:, 0]))
    else:
        looked_up = cv2.LUT(np.reshape(pictures, (num * height, width, channels)), table[np.newaxis])
    return np.reshape(looked_up, pictures.shape)
