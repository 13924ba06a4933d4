"""Random changes to whole batches of uint8 pictures, on the device that trains.

One gather does crop and flip, one grid sample all geometric operations, one fused multiply-add the photometric ones:
per-picture Python loops cost more than a small network's forward pass.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from edgekit.core.recipe import AugmentSection

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
PHOTOMETRIC = ("brightness", "contrast", "solarize")
OPERATIONS = (*GEOMETRIC, *PHOTOMETRIC, "identity")


class Mixed(msgspec.Struct, frozen=True):
    """Targets of a mixed batch: loss = weight * loss(first) + (1 - weight) * loss(second)."""

    first: Tensor
    second: Tensor
    weight: float


def crop_and_flip(pictures: Tensor, padding: int, *, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift each picture by up to `padding` pixels (borders reflected) and mirror half of them.

    Args:
        pictures: uint8 [n, h, w, c].
        padding: Largest shift in pixels; less than h and w.
        flip: Whether to mirror.
        generator: Source of randomness, on the CPU.

    Returns:
        A new tensor of the same shape and type.
    """
    count, height, width, _ = pictures.shape
    device = pictures.device

    def draw(high: int) -> Tensor:
        return torch.randint(0, high, (count, 1), generator=generator).to(device)

    rows = _reflect(torch.arange(height, device=device) + draw(2 * padding + 1) - padding, height)
    columns = _reflect(torch.arange(width, device=device) + draw(2 * padding + 1) - padding, width)
    if flip:
        columns = torch.where(draw(2) == 1, columns.flip(1), columns)
    index = torch.arange(count, device=device)[:, None, None]
    return pictures[index, rows[:, :, None], columns[:, None, :]]


def _reflect(position: Tensor, size: int) -> Tensor:
    position = position.abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)


def rand_augment(pictures: Tensor, config: AugmentSection, generator: torch.Generator) -> Tensor:
    """Apply `rand_ops` random operations to each picture (after Cubuk et al. 2020, RandAugment).

    Geometric operations are composed into one affine map, photometric ones into gain, offset and threshold, so the
    order among them is fixed: geometry first. Values stay in 0..255.

    Args:
        pictures: float [n, c, h, w], 0..255.
        config: `rand_ops` and `rand_magnitude` are read.
        generator: Source of randomness, on the CPU.
    """
    count = len(pictures)
    strength: dict[str, Tensor] = {name: torch.zeros(count) for name in OPERATIONS}
    for _ in range(config.rand_ops):
        choice = torch.randint(0, len(OPERATIONS), (count,), generator=generator)
        amount = config.rand_magnitude * (2 * torch.rand(count, generator=generator) - 1)
        for index, name in enumerate(OPERATIONS):
            strength[name] += torch.where(choice == index, amount, 0.0)
    pictures = _apply_affine(pictures, strength)
    brightness = strength["brightness"].to(pictures)[:, None, None, None]
    contrast = strength["contrast"].to(pictures)[:, None, None, None]
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    pictures = ((pictures - mean) * (1 + contrast) + mean + 255 * brightness * 0.5).clamp(0, 255)
    threshold = 255 * (1 - strength["solarize"].abs().to(pictures))[:, None, None, None]
    return torch.where(pictures > threshold, 255 - pictures, pictures)


def _apply_affine(pictures: Tensor, strength: dict[str, Tensor]) -> Tensor:
    """Rotate by up to 60 degrees, shear by up to 0.6, shift by up to 0.6 of the half size, at magnitude 1."""
    angle = strength["rotate"] * math.pi / 3
    shear_x, shear_y = 0.6 * strength["shear_x"], 0.6 * strength["shear_y"]
    cosine, sine = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cosine + shear_y * -sine, -sine + shear_x * cosine, 0.6 * strength["translate_x"]], 1),
            torch.stack([sine + shear_y * cosine, cosine + shear_x * sine, 0.6 * strength["translate_y"]], 1),
        ],
        1,
    ).to(pictures)
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def erase(pictures: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill one random rectangle (2 to 25 % of the area) with the batch mean (after Zhong et al. 2020).

    Args:
        pictures: float [n, c, h, w].
        probability: Share of pictures changed.
        generator: Source of randomness, on the CPU.
    """
    count, _, height, width = pictures.shape
    random = torch.rand((5, count), generator=generator)
    area = 0.02 + 0.23 * random[0]
    ratio = torch.exp((2 * random[1] - 1) * math.log(3.0))
    tall = (torch.sqrt(area * ratio).clamp(max=1) * height)[:, None]
    wide = (torch.sqrt(area / ratio).clamp(max=1) * width)[:, None]
    top, left = random[2][:, None] * (height - tall), random[3][:, None] * (width - wide)
    row, column = torch.arange(height)[None], torch.arange(width)[None]
    rows = (row >= top) & (row < top + tall)
    columns = (column >= left) & (column < left + wide)
    mask = rows[:, None, :, None] & columns[:, None, None, :] & (random[4] < probability)[:, None, None, None]
    return torch.where(mask.to(pictures.device), pictures.mean(), pictures)


def mix(pictures: Tensor, labels: Tensor, config: AugmentSection, generator: torch.Generator) -> tuple[Tensor, Mixed]:
    """Mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019); a coin decides when both are on.

    Args:
        pictures: float [n, c, h, w].
        labels: int64 [n].
        config: `mixup` and `cutmix` are read.
        generator: Source of randomness, on the CPU.
    """
    order = torch.randperm(len(pictures), generator=generator).to(pictures.device)
    coin = float(torch.rand((), generator=generator))
    use_cutmix = config.cutmix > 0 and (config.mixup == 0 or coin < 0.5)
    alpha = config.cutmix if use_cutmix else config.mixup
    weight = _draw_beta(alpha, generator)
    if not use_cutmix:
        return weight * pictures + (1 - weight) * pictures[order], Mixed(labels, labels[order], weight)
    height, width = pictures.shape[2:]
    tall, wide = round(height * math.sqrt(1 - weight)), round(width * math.sqrt(1 - weight))
    top = int(torch.randint(0, height - tall + 1, (), generator=generator))
    left = int(torch.randint(0, width - wide + 1, (), generator=generator))
    mixed = pictures.clone()
    mixed[:, :, top : top + tall, left : left + wide] = pictures[order, :, top : top + tall, left : left + wide]
    return mixed, Mixed(labels, labels[order], 1 - tall * wide / (height * width))


def _draw_beta(alpha: float, generator: torch.Generator) -> float:
    """One sample of Beta(alpha, alpha), from two gammas: torch's Beta takes no generator."""
    gammas = torch._standard_gamma(  # noqa: SLF001 # pyright: ignore[reportPrivateImportUsage] - the only one with one
        torch.full((2,), alpha), generator=generator
    )
    return float(gammas[0] / gammas.sum().clamp(min=1e-12))
