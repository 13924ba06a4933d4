"""JPEG at low quality."""

from __future__ import annotations

import cv2
import numpy as np

from edgekit.perturb.corruption import Corruption, Floats, to_pixels


def _change(pictures: Floats, quality: int, rng: np.random.Generator) -> Floats:
    del rng
    restored = np.empty_like(pictures)
    mode = cv2.IMREAD_COLOR if pictures.shape[3] == 3 else cv2.IMREAD_GRAYSCALE
    for index, picture in enumerate(to_pixels(pictures)):
        # OpenCV takes blue first; turned around on the way in and out.
        _, coded = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = np.reshape(np.asarray(cv2.imdecode(coded, mode)), picture.shape)[..., ::-1]
        restored[index] = decoded.astype(np.float32) / np.float32(255)
    return restored


CORRUPTION = Corruption(
    name="jpeg_compression",
    title="JPEG",
    family="digital",
    small=(80, 65, 58, 50, 40),
    large=(25, 18, 15, 10, 7),
    change=_change,
)
