"""Training of quantized graphs, on toy pictures and on the embedded ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from edgekit.core.errors import TrainingError, UsageError
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Silent
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import AugmentSection, QatSection, QuantizeSection
from edgekit.data.memory import MemorySource
from edgekit.data.opening import open_source
from edgekit.data.reading import iterate_batches
from edgekit.export.hub import HubRequest, load_hub
from edgekit.lowbit.calibrating import run_calibration
from edgekit.lowbit.qat import STATE_NAME, QatRequest, train_quantized
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.ptq import quantize_static
from edgekit.quantize.qat import make_trainable
from edgekit.runtime.preprocess import normalize
from graphs import GraphBuilder, quantize_for_test
from toy_pictures import toy_source

SPEC = PreprocessSpec(input_size=(12, 12), num_channels=1, mean=(0.3,), std=(0.3,))
FOUR_BITS = QuantizeSection(scheme="static_wi4_ai8", ranges="minmax", bias_correction=False)
CONFIG = QatSection(epochs=3, learning_rate=2e-3, batch_size=32)


def _graph() -> Graph:
    build = GraphBuilder((1, 1, 12, 12), seed=3)
    x = build.relu(build.conv("input", 8, 3, stride=2))
    x = build.relu(build.conv(x, 8, 3, pads=1, group=8))
    x = build.relu(build.conv(x, 16, 1))
    build.gemm(build.flatten(build.global_pool(x)), 4)
    return build.build()


def _start(graph: Graph) -> QuantizedGraph:
    pictures = np.stack([toy_source(64, size=12).read(index) for index in range(64)])
    return quantize_for_test(graph, normalize(pictures, SPEC), FOUR_BITS)


def _request(tmp_path: Path, config: QatSection = CONFIG, num_pictures: int = 320) -> QatRequest:
    graph = _graph()
    return QatRequest(
        start=_start(graph),
        teacher=graph,
        spec=SPEC,
        pictures=toy_source(num_pictures, size=12),
        config=config,
        augment=AugmentSection(flip=True, crop_padding=1),
        work_dir=tmp_path / "work",
    )


def _assert_same(first: QuantizedGraph, second: QuantizedGraph) -> None:
    assert first.constants.keys() == second.constants.keys()
    for name, tensor in first.constants.items():
        assert np.array_equal(tensor.values, second.constants[name].values), name
        assert np.array_equal(tensor.params.scale, second.constants[name].params.scale), name
    for name, grid in first.activations.items():
        assert np.array_equal(grid.scale, second.activations[name].scale), name
        assert np.array_equal(grid.zero_point, second.activations[name].zero_point), name


def test_training_brings_answers_nearer_to_float(tmp_path: Path) -> None:
    result = train_quantized(_request(tmp_path))
    assert result.distance < 0.5 * result.start_distance
    assert len(result.history) == 3
    assert result.quantized.scheme == "static_wi4_ai8"


def test_no_epochs_give_the_start_back(tmp_path: Path) -> None:
    request = _request(tmp_path, msgspec.structs.replace(CONFIG, epochs=0))
    result = train_quantized(request)
    assert result.quantized is request.start
    assert result.history == ()


def test_training_that_does_harm_gives_the_start_back_and_says_so(tmp_path: Path) -> None:
    request = _request(tmp_path, QatSection(epochs=1, optimizer="sgd", learning_rate=1e-12, batch_size=32))
    spoilt = msgspec.structs.replace(request, teacher=request.start.graph)
    config = msgspec.structs.replace(request.config, optimizer="adamw", learning_rate=0.5)
    result = train_quantized(msgspec.structs.replace(spoilt, config=config))
    assert result.quantized is request.start
    assert result.distance == result.start_distance
    assert any("start was kept" in note for note in result.notes)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_resumed_training_gives_the_same_integers(tmp_path: Path, ema_decay: float) -> None:
    config = msgspec.structs.replace(
        CONFIG, ema_decay=ema_decay, damping=1e-2, freeze_threshold=5e-3, swinging_layers="all"
    )
    whole = train_quantized(_request(tmp_path / "whole", config))
    request = _request(tmp_path / "parts", config)
    with pytest.raises(KeyboardInterrupt):
        train_quantized(request, _Interrupting(after=2))
    assert (request.work_dir / STATE_NAME).is_file()
    resumed = train_quantized(msgspec.structs.replace(request, resume=True))
    assert resumed.num_frozen == whole.num_frozen
    assert resumed.distance == whole.distance
    _assert_same(resumed.quantized, whole.quantized)


class _Interrupting(Silent):
    """Ctrl-C in the epoch after some."""

    def __init__(self, after: int) -> None:
        self.num_left = after

    def begin(self, label: str, total: int) -> None:
        del total
        if label.startswith("epoch"):
            self.num_left -= 1
            if self.num_left < 0:
                raise KeyboardInterrupt


def test_state_of_another_start_is_refused(tmp_path: Path) -> None:
    request = _request(tmp_path, msgspec.structs.replace(CONFIG, epochs=1))
    train_quantized(request)
    name, tensor = next((name, t) for name, t in request.start.constants.items() if t.values.dtype == np.int8)
    other = msgspec.structs.replace(tensor, values=-tensor.values)
    start = msgspec.structs.replace(request.start, constants={**request.start.constants, name: other})
    with pytest.raises(TrainingError, match="another recipe"):
        train_quantized(msgspec.structs.replace(request, start=start, resume=True))


def test_pictures_without_labels_are_enough_for_the_float_teacher(tmp_path: Path) -> None:
    request = _request(tmp_path, msgspec.structs.replace(CONFIG, epochs=1))
    bare = dataclasses.replace(request.pictures, labels=None, class_names=())  # pyright: ignore[reportArgumentType]
    labelled = train_quantized(request)
    unlabelled = train_quantized(msgspec.structs.replace(request, pictures=bare))
    _assert_same(labelled.quantized, unlabelled.quantized)
    assert unlabelled.history[0].train_top1 is None
    assert labelled.history[0].train_top1 is not None


def test_labels_that_are_asked_for_must_be_there(tmp_path: Path) -> None:
    request = _request(tmp_path, msgspec.structs.replace(CONFIG, distill_weight=0.5))
    bare = dataclasses.replace(request.pictures, labels=None, class_names=())  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="no labels"):
        train_quantized(msgspec.structs.replace(request, pictures=bare))


def test_a_handful_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 10 pictures"):
        train_quantized(_request(tmp_path, num_pictures=9))


@pytest.mark.slow
def test_embedded_model_at_four_bits_beats_its_start_by_training_on_embedded_pictures(tmp_path: Path) -> None:
    hub = load_hub(HubRequest(model="mobilenet"))
    calibration = open_source("fashion_mnist_mini", "calibration")
    section = QuantizeSection(scheme="static_wi4_ai8")
    start = quantize_static(hub.graph, run_calibration(hub, calibration, section, Silent()), section)
    request = QatRequest(
        start=start,
        teacher=hub.graph,
        spec=hub.card.preprocess,
        pictures=calibration,
        config=QatSection(epochs=2, learning_rate=2e-3, batch_size=32),
        work_dir=tmp_path,
    )
    result = train_quantized(request)
    test = open_source("fashion_mnist_mini", "test")
    assert isinstance(test, MemorySource)
    test = test.take(np.arange(500), split="test")
    float_answers = _answers(GraphNetwork(hub.graph), test, hub.card.preprocess)
    before = _answers(make_trainable(start), test, hub.card.preprocess)
    after = _answers(make_trainable(result.quantized, "grid"), test, hub.card.preprocess)
    assert result.distance < 0.7 * result.start_distance
    assert (after == float_answers).mean() > (before == float_answers).mean() + 0.03


@torch.no_grad()
def _answers(network: GraphNetwork, source: MemorySource, spec: PreprocessSpec) -> np.ndarray:
    batches = iterate_batches(source, spec, batch_size=250)
    return np.concatenate(
        [network(torch.from_numpy(normalize(batch.pictures, spec))).argmax(1).numpy() for batch in batches]
    )
