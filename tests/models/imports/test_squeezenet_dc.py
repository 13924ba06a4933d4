from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.errors import DataError, IntegrityError, UnknownNameError
from edgekit.models.importer import import_weights
from edgekit.models.imports.squeezenet_dc import NUM_CENTROIDS, OPTIONS, read
from edgekit.models.zoo import build_model

SHAPES = [tuple(t.shape) for name, t in build_model(OPTIONS).state_dict().items() if name.endswith("weight")]


def encode(layers: list[list[tuple[int, int]]]) -> bytes:
    """A file whose layers store the given (gap, symbol) pairs; codebook value i is i / 10, bias j is j."""
    parts = [np.array([len(layer) for layer in layers], "<u4").tobytes()]
    for shape, layer in zip(SHAPES, layers, strict=True):
        gaps = [gap for gap, _ in layer] + [0] * (len(layer) % 2)
        parts += [
            (np.arange(NUM_CENTROIDS) / 10).astype("<f4").tobytes(),
            np.arange(shape[0]).astype("<f4").tobytes(),
            bytes(symbol for _, symbol in layer),
            bytes(gaps[i] | gaps[i + 1] << 4 for i in range(0, len(gaps), 2)),
        ]
    return b"".join(parts)


LAYERS = [[(0, 5)], *([[]] * 24), [(2, 7), (15, 0), (0, 9)]]


def test_gaps_lead_to_the_right_weights() -> None:
    state = read(encode(LAYERS)).state
    last = state["classifier.weight"].reshape(-1)
    assert {int(place): float(last[place]) for place in last.nonzero()} == pytest.approx({2: 0.7, 19: 0.9})
    assert torch.equal(state["classifier.bias"], torch.arange(1000.0))


def test_first_layer_is_turned_from_bgr_to_rgb() -> None:
    first = read(encode(LAYERS)).state["features.0.weight"]
    assert float(first[0, 2, 0, 0]) == 0.5
    assert int((first != 0).sum()) == 1


@pytest.mark.parametrize("cut", [0, 50, 103, 104, 2000, -1])
def test_truncated_file_is_refused_with_the_place(cut: int) -> None:
    content = encode(LAYERS)
    with pytest.raises(IntegrityError, match="ends at byte"):
        read(content[:cut])


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(IntegrityError, match="1 bytes follow"):
        read(encode(LAYERS) + b"\0")


def test_gaps_beyond_the_layer_are_refused() -> None:
    small = min(range(26), key=lambda index: int(np.prod(SHAPES[index])))
    layers = [list(layer) for layer in LAYERS]
    layers[small] = [(15, 1)] * (int(np.prod(SHAPES[small])) // 16 + 1)
    with pytest.raises(IntegrityError, match="lead to weight"):
        read(encode(layers))


def test_more_symbols_than_weights_are_refused() -> None:
    with pytest.raises(IntegrityError, match="the file stores 4294967295"):
        read(b"\xff" * 26 * 4 + b"\0" * 5000)


def test_missing_file_and_unknown_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing"):
        import_weights("squeezenet-dc", tmp_path / "nothing.net")
    with pytest.raises(UnknownNameError, match="squeezenet_dd"):
        import_weights("squeezenet-dd", tmp_path / "nothing.net")


def test_published_file_has_its_published_numbers(shared_data: Path) -> None:
    module, imported = import_weights("squeezenet-dc", shared_data / "models" / "compressed_SqueezeNet.net")
    weights = [parameter for name, parameter in module.named_parameters() if name.endswith("weight")]
    assert sum(weight.numel() for weight in weights) == 1_244_448
    assert sum(int((weight != 0).sum()) for weight in weights) == 415_921
    assert max(len(weight.unique()) for weight in weights) <= NUM_CENTROIDS
    assert len(imported.card.labels) == 1000
