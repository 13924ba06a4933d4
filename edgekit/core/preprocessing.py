"""How a picture becomes a model input: the contract that training, evaluation and the board share."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "area"]


class PreprocessSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resize, crop and normalize: `x = (picture / 255 - mean) / std`, per channel.

    Args:
        input_size: (height, width) in pixels.
        num_channels: 3 for RGB, 1 for gray.
        mean: Per channel, on the 0..1 scale.
        std: Per channel, on the 0..1 scale.
        crop_fraction: Share of the short side that the centred square crop keeps; the picture is resized so that the
            crop comes out at `input_size` (0.875: resize 256, crop 224). Aspect ratio is kept.
        interpolation: Resampling filter; shrinking by more than 2 always averages areas first.
    """

    input_size: tuple[int, int]
    num_channels: int = 3
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"
