from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import bench_training
from bench_training import PADDING, SIZE, PlainDataset, compare, main, open_pictures, synthesize


def test_plain_dataset_crops_within_the_padding_flips_and_normalizes() -> None:
    source, spec = open_pictures(synthetic=True, num=4)
    torch.manual_seed(0)

    tensor, label = PlainDataset(source, spec)[3]

    assert source.labels is not None
    assert label == source.labels[3]
    assert tensor.shape == (3, SIZE, SIZE)
    shown = np.rint((tensor.numpy() * 0.25 + 0.5) * 255).astype(np.uint8)
    padded = np.pad(
        source.pictures[3].transpose(2, 0, 1), ((0, 0), (PADDING, PADDING), (PADDING, PADDING)), mode="reflect"
    )
    crops = np.lib.stride_tricks.sliding_window_view(padded, (3, SIZE, SIZE)).reshape(-1, 3, SIZE, SIZE)
    assert any(np.array_equal(crop, one) for crop in crops for one in (shown, shown[..., ::-1]))


def test_compare_gives_rates_and_their_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_training, "BATCH_SIZE", 4)
    monkeypatch.setattr(bench_training, "NUM_WORKERS", 1)  # torch warns of more workers than cores
    _, spec = open_pictures(synthetic=True, num=1)

    figures = compare("mobilenet_v1_w0.25", synthesize(16), spec, num_steps=2, num_rounds=1)

    ours = figures["mobilenet_v1_w0.25.images_per_second_ours"]
    plain = figures["mobilenet_v1_w0.25.images_per_second_plain"]
    ratio = figures["mobilenet_v1_w0.25.throughput_ratio"]
    assert isinstance(ours, float)
    assert isinstance(plain, float)
    assert ratio == pytest.approx(ours / plain, rel=0.02)


@pytest.mark.bench
def test_bench_training_prints_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--synthetic", "--models", "squeezenet1_1_w0.5"])

    figures = json.loads(capsys.readouterr().out)
    assert figures["throughput_ratio"] == figures["squeezenet1_1_w0.5.throughput_ratio"] > 0
