from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench_import import GridHook, main, same_answers
from edgekit.models.tflite_file import TfliteTensor


def test_grid_hook_rounds_and_clips_as_the_file_does() -> None:
    tensor = TfliteTensor(
        name="x",
        shape=(1, 4),
        type="UINT8",
        scale=np.array([0.5], np.float32),
        zero_point=np.array([2], np.int64),
        axis=0,
        values=None,
    )
    rounded = GridHook(tensor)(torch.nn.Identity(), None, torch.tensor([-9.0, 0.1, 0.4, 500.0]))
    assert rounded.tolist() == [-1.0, 0.0, 0.5, 126.5]


def test_same_answers_is_the_share_of_equal_maxima() -> None:
    first = np.array([[1, 2], [3, 1], [0, 9], [5, 4]], np.float32)
    second = np.array([[0, 1], [0, 1], [0, 1], [1, 0]], np.float32)
    assert same_answers(first, second) == 0.75


@pytest.mark.slow
def test_quick_run_prints_one_document(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--data", str(shared_data)])
    figures = json.loads(capsys.readouterr().out)
    assert figures["mobilenet_v1_0_25_128_quant.num_pictures"] == 100
    assert figures["mobilenet_v1_0_25_128_quant.agreement"] > 0.9
