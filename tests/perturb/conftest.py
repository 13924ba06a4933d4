"""Small trained networks to attack, in torch and as exported int8 files."""

from __future__ import annotations

import pytest

from attack_toys import Toy, make_toy
from edgekit.core.artifact import ModelCard
from edgekit.export.tflite import write_tflite
from edgekit.export.torch_graph import trace
from edgekit.perturb.square import Predict
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import normalize
from graphs import quantize_for_test


@pytest.fixture(scope="session", params=[1, 3], ids=["gray", "color"])
def toy(request: pytest.FixtureRequest) -> Toy:
    """A network for gray and one for color pictures; not to be changed by a test."""
    return make_toy(request.param)


@pytest.fixture(scope="session")
def int8_predict(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Predict:
    """The toy's exported int8 TFLite file, through the runtime of the board."""
    graph = trace(toy.module, (toy.spec.num_channels, *toy.spec.input_size), name="toy")
    quantized = quantize_for_test(graph, normalize(toy.pictures, toy.spec))
    path = tmp_path_factory.mktemp("toy") / "toy.tflite"
    card = ModelCard(model="toy", scheme=quantized.scheme, labels=(), preprocess=toy.spec)
    write_tflite(quantized, path, card)
    interpreter = load_interpreter(path, num_threads=1)
    return lambda pictures: predict_logits(interpreter, pictures, toy.spec)
