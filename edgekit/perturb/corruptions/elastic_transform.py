"""A sheet of rubber: three points jump, and every pixel drifts by a smooth random field.

The published parameters make the first severities jump most and drift least, so that their distortion falls while the
number rises. Here the jump stays and the drift grows; both are shares of the picture's side.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import Drawn, map_pictures


def _change(pictures: Floats, rubber: tuple[float, float, float], rng: np.random.Generator) -> Floats:
    height, width = pictures.shape[1:3]
    side = min(height, width)
    jump, drift, smoothness = (share * side for share in rubber)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))

    def stretch(picture: npt.NDArray[np.float32]) -> Drawn:
        matrix = _jumping(height, width, jump, rng)
        jumped = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        across, down = (_field((height, width), drift, smoothness, rng) for _ in range(2))
        return cv2.remap(jumped, columns + across, rows + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    return map_pictures(pictures, stretch)


def _jumping(height: int, width: int, jump: float, rng: np.random.Generator) -> Drawn:
    """The affine map that moves three points about the centre by up to `jump` pixels each way."""
    centre = np.array([width, height], np.float32) // 2
    reach = min(height, width) // 3
    points = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    moved = points + rng.uniform(-jump, jump, points.shape)
    return cv2.getAffineTransform(points.astype(np.float32), moved.astype(np.float32))


def _field(size: tuple[int, int], drift: float, smoothness: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Smooth random offsets whose root mean square is `drift` pixels."""
    rough = rng.uniform(-1, 1, size).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), smoothness, borderType=cv2.BORDER_REFLECT)
    return smooth * np.float32(drift / max(float(np.sqrt(np.mean(smooth**2))), 1e-6))


# (jump, drift, smoothness), shares of the short side
CORRUPTION = Corruption(
    name="elastic_transform",
    title="elastic",
    family="digital",
    small=((0.03, 0.01, 0.04), (0.03, 0.018, 0.04), (0.03, 0.026, 0.04), (0.03, 0.034, 0.04), (0.03, 0.045, 0.04)),
    large=((0.02, 0.003, 0.01), (0.02, 0.006, 0.01), (0.02, 0.009, 0.01), (0.02, 0.012, 0.01), (0.02, 0.016, 0.01)),
    change=_change,
)
