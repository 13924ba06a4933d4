"""Pictures as a report holds them."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt


def encode_png(picture: npt.NDArray[np.uint8]) -> str:
    """A picture, uint8 [height, width, 3 (RGB) or 1], as PNG in base64."""
    _, content = cv2.imencode(".png", picture[:, :, ::-1])
    return base64.b64encode(content.tobytes()).decode()
