"""Layers that are decided, kept on disk: a rounding that was interrupted goes on where it stopped.

A folder belongs to one rounding of one network: its name carries a fingerprint of everything that the integers depend
on, so what was kept for other weights, pictures, grids or settings is never taken.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import msgspec
import numpy as np

from edgekit.core.quant import QuantParams, QuantTensor
from edgekit.core.storage import write_bytes
from edgekit.quantize.outcome import LayerOutcome
from edgekit.quantize.ptq import DecidedLayer, QuantizationStart

_FINGERPRINT_DIGITS = 16


class DecisionStore:
    """Decided layers of one rounding.

    Args:
        folder: Where the folder of this rounding lies, or will; None keeps nothing.
        fingerprint: From `fingerprint_of`.
    """

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self._folder = None if folder is None else folder / fingerprint

    def load(self, key: str) -> tuple[DecidedLayer, LayerOutcome] | None:
        """What was kept for a layer; None when nothing was, or when it is damaged."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                grid = QuantParams(
                    scale=arrays["scale"], zero_point=arrays["zero_point"], axis=0, num_bits=int(arrays["num_bits"])
                )
                bias = dict(arrays).get("bias")
                outcome = msgspec.json.decode(arrays["outcome"].tobytes(), type=LayerOutcome)
                return DecidedLayer(weight=QuantTensor(values=arrays["values"], params=grid), bias=bias), outcome
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, msgspec.DecodeError):
            return None

    def save(self, key: str, decision: DecidedLayer, outcome: LayerOutcome) -> None:
        """Keep a layer. Raises `OutputError` when it cannot be written."""
        path = self._path(key)
        if path is None:
            return
        grid = decision.weight.params
        arrays = {
            "values": decision.weight.values,
            "scale": grid.scale,
            "zero_point": grid.zero_point,
            "num_bits": np.array(grid.num_bits),
            "outcome": np.frombuffer(msgspec.json.encode(outcome), np.uint8),
        }
        if decision.bias is not None:
            arrays["bias"] = decision.bias
        content = io.BytesIO()
        np.savez(content, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.getvalue())

    def _path(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def fingerprint_of(start: QuantizationStart, *settings: object) -> str:
    """A name for everything that decided integers depend on: weights, grids, settings.

    Args:
        start: Weights and grids.
        settings: msgspec structs or plain values: how layers are rounded, which pictures.
    """
    digest = hashlib.sha256()
    for name in sorted(start.graph.constants):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(start.graph.constants[name]).tobytes())
    for grids in (start.activations, start.weight_grids):
        for name in sorted(grids):
            grid = grids[name]
            digest.update(f"{name} {grid.num_bits}".encode())
            digest.update(grid.scale.tobytes() + grid.zero_point.tobytes())
    for setting in settings:
        digest.update(msgspec.json.encode(setting))
    return digest.hexdigest()[:_FINGERPRINT_DIGITS]
