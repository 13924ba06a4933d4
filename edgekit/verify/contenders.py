"""What `edgekit evaluate` can ask for answers: files, runs, bundles and torch weights, all in one form."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from edgekit.bundle.reading import Bundle, is_bundle, open_bundle, read_file
from edgekit.core.environment import installed_version
from edgekit.core.errors import UsageError
from edgekit.core.evaluation import EvaluatedModel
from edgekit.core.layout import MODEL_EKZ, MODEL_TFLITE
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.storage import write_bytes
from edgekit.export.hub import HubRequest, load_hub
from edgekit.runtime.card import require_classifier
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.verify.answers import Predictor

FILE_SUFFIXES = frozenset({".tflite", ".onnx", ".ekz"})


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is ready to answer.

    Args:
        about: What it is.
        spec: Picture to input.
        labels: Class names in output order; empty when it carries none.
        num_classes: Outputs.
        predict: uint8 pictures [n, h, w, c], fitted to `spec.input_size`, to logits [n, classes].
    """

    about: EvaluatedModel
    spec: PreprocessSpec
    labels: tuple[str, ...]
    num_classes: int
    predict: Predictor


def open_contender(name: str, *, num_threads: int = 2) -> Contender:
    """Load what a user names: a model file, a run folder (its `model.tflite`), a bundle, or torch weights.

    A model file runs in its runtime, with the preprocessing of the board; so does the packed model of a bundle.
    Torch weights (a catalogue name, a folder of `edgekit train`, a checkpoint) run in torch, on the same pictures.

    Args:
        name: .tflite, .onnx or .ekz file, run folder, .ekb file or folder, catalogue name, or checkpoint.
        num_threads: Threads of the runtime.

    Raises:
        UsageError: Nothing of that name, a file that does not say how it wants its pictures or gives features, or
            random weights.
        EdgekitError: As `load_interpreter`, `open_bundle` and `load_hub` raise it.
    """
    path = Path(name).expanduser()
    if is_bundle(path):
        return _open_bundle(name, open_bundle(path), num_threads)
    if path.suffix.lower() in FILE_SUFFIXES and not path.is_dir():
        return _open_file(name, path, num_threads)
    if (path / MODEL_TFLITE).is_file():
        return _open_file(name, path / MODEL_TFLITE, num_threads)
    return _open_weights(name)


def _open_file(name: str, path: Path, num_threads: int) -> Contender:
    interpreter = load_interpreter(path, num_threads=num_threads)
    card = interpreter.card
    if card is None:
        raise UsageError(f"{path} carries no edgekit card", hint="evaluate files that edgekit wrote")
    require_classifier(card, path)
    content = path.read_bytes()
    return Contender(
        about=EvaluatedModel(
            given=name,
            file=path.name,
            model=card.model,
            scheme=card.scheme,
            runtime=interpreter.name,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        ),
        spec=card.preprocess,
        labels=card.labels,
        num_classes=int(np.prod(interpreter.output.shape[1:])),
        predict=lambda pictures: predict_logits(interpreter, pictures, card.preprocess),
    )


def _open_bundle(name: str, bundle: Bundle, num_threads: int) -> Contender:
    """The packed model of a checked bundle. The runtimes have read or mapped it when its temporary file goes."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        packed = Path(folder) / MODEL_EKZ
        write_bytes(packed, read_file(bundle, MODEL_EKZ))
        contender = _open_file(name, packed, num_threads)
    about = msgspec.structs.replace(contender.about, file=f"{bundle.path.name}: {MODEL_EKZ}")
    return msgspec.structs.replace(contender, about=about, labels=bundle.labels)


def _open_weights(name: str) -> Contender:
    hub = load_hub(HubRequest(model=name))
    if hub.torch_logits is None:  # a run of compress without its TFLite file
        raise UsageError(f"{name} holds no {MODEL_TFLITE}", hint="name one of its files, or make the run again")
    return Contender(
        about=EvaluatedModel(
            given=name,
            file=None,
            model=hub.card.model,
            scheme=hub.card.scheme,
            runtime=f"torch {installed_version('torch')}",
            size_bytes=None,
            sha256=None,
        ),
        spec=hub.card.preprocess,
        labels=hub.card.labels,
        num_classes=hub.graph.shapes[hub.graph.output][-1],
        predict=hub.torch_logits,
    )
