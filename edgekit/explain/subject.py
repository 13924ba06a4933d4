"""What is explained: a float model, an exported file, or a file with the float model that it was made from."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import msgspec
import torch

from edgekit.bundle.reading import is_bundle
from edgekit.core.errors import UnsupportedOpError
from edgekit.core.evaluation import EvaluatedModel
from edgekit.core.graph import Graph
from edgekit.core.layout import FLOAT_ONNX, MODEL_EKZ, MODEL_ONNX, MODEL_TFLITE
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.explain.rectified import RectifiedNetwork
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.verify.answers import Predictor
from edgekit.verify.contenders import FILE_SUFFIXES, Contender, open_contender

RUN_FILES = (MODEL_TFLITE, MODEL_ONNX, MODEL_EKZ)


class FloatModel(msgspec.Struct, frozen=True, kw_only=True):
    """A float model whose layers can be looked at.

    Args:
        about: What it is.
        spec: Picture to input.
        labels: Class names in output order; empty when it carries none.
        graph: Its hub graph.
        network: The same, for gradients; None when torch cannot run it.
        predict: uint8 pictures [n, h, w, c] to logits [n, classes].
    """

    about: EvaluatedModel
    spec: PreprocessSpec
    labels: tuple[str, ...]
    graph: Graph
    network: RectifiedNetwork | None
    predict: Predictor


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is explained; at least one of the two.

    Args:
        float_model: For gradients and layers; None when only a file is known.
        file: The exported file; None when only a float model is known.
        notes: Why something is missing; one sentence each.
    """

    float_model: FloatModel | None
    file: Contender | None
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> FloatModel | Contender:
        """The one whose answer is explained: what the board runs, where it is known."""
        main = self.file or self.float_model
        if main is None:
            raise TypeError("a subject without any model")
        return main

    @property
    def num_classes(self) -> int:
        """Outputs."""
        main = self.main
        return main.num_classes if isinstance(main, Contender) else main.graph.shapes[main.graph.output][-1]


def open_subject(name: str, *, num_threads: int = 2) -> Subject:
    """Load what a user names, and the float model that it was made from where that is known.

    A run of `edgekit compress` holds both. So does one of its files, read from within the run folder. A float .onnx
    file, a catalogue name, a folder of `edgekit train` and a checkpoint are float models without an exported file.

    Args:
        name: As `open_contender` takes it; or a float .onnx file of anybody's.
        num_threads: Threads of the runtime.

    Raises:
        EdgekitError: As `open_contender` and `load_hub` raise it.
    """
    path = Path(name).expanduser()
    if not is_bundle(path):
        if (path / MODEL_TFLITE).is_file():
            return _beside_float(open_contender(name, num_threads=num_threads), path / FLOAT_ONNX, num_threads)
        if path.suffix.lower() not in FILE_SUFFIXES or path.is_dir():
            return _alone(_open_weights(name, num_threads))
        if path.suffix.lower() == ".onnx" and _is_float(path, num_threads):
            return _alone(_open_onnx(name, path, num_threads))
    origin = path.with_name(FLOAT_ONNX) if path.name in RUN_FILES else None
    return _beside_float(open_contender(name, num_threads=num_threads), origin, num_threads)


def _alone(opened: tuple[FloatModel, tuple[str, ...]]) -> Subject:
    float_model, notes = opened
    return Subject(float_model=float_model, file=None, notes=notes)


def _beside_float(file: Contender, origin: Path | None, num_threads: int) -> Subject:
    """A file, with its float model if that lies where it should and takes the same pictures."""
    if origin is None or not origin.is_file():
        note = (
            f"Only the file is known, not the float model that it was made from: so there are occlusion maps, but no "
            f"gradients and no layers. A run folder of edgekit compress, which holds {FLOAT_ONNX}, has all of them."
        )
        return Subject(float_model=None, file=file, notes=(note,))
    float_model, notes = _open_onnx(str(origin), origin, num_threads)
    same = (float_model.spec, float_model.graph.shapes[float_model.graph.output][-1]) == (file.spec, file.num_classes)
    if not same:
        note = f"{origin.name} beside the file takes other pictures or has other classes: it is not its float model."
        return Subject(float_model=None, file=file, notes=(note,))
    return Subject(float_model=float_model, file=file, notes=notes)


def _is_float(path: Path, num_threads: int) -> bool:
    """Whether an .onnx file is a float model; where it is neither that nor one of ours, its reader words the error."""
    card = load_interpreter(path, num_threads=num_threads).card if path.is_file() else None
    if card is None:
        return True
    if card.scheme != "float":
        return False
    try:  # early runs wrote the float model's card into the quantized file too
        load_hub(HubRequest(model=str(path)))
    except UnsupportedOpError:
        return False
    return True


def _open_onnx(name: str, path: Path, num_threads: int) -> tuple[FloatModel, tuple[str, ...]]:
    hub = load_hub(HubRequest(model=str(path)))
    interpreter = load_interpreter(path, num_threads=num_threads)
    spec = hub.card.preprocess
    content = path.read_bytes()
    about = EvaluatedModel(
        given=name,
        file=path.name,
        model=hub.card.model,
        scheme=hub.card.scheme,
        runtime=interpreter.name,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return _float_model(hub, about, lambda pictures: predict_logits(interpreter, pictures, spec))


def _open_weights(name: str, num_threads: int) -> tuple[FloatModel, tuple[str, ...]]:
    """Torch weights, which answer through ONNX Runtime: the same network, several times as fast."""
    hub = load_hub(HubRequest(model=name))
    if hub.torch_logits is None:  # a folder that holds float.onnx and nothing else of a run
        return _open_onnx(name, Path(name).expanduser() / FLOAT_ONNX, num_threads)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        interpreter = load_interpreter(
            write_onnx(hub.graph, Path(folder) / FLOAT_ONNX, hub.card).path, num_threads=num_threads
        )
    spec = hub.card.preprocess
    about = EvaluatedModel(
        given=name,
        file=None,
        model=hub.card.model,
        scheme=hub.card.scheme,
        runtime=interpreter.name,
        size_bytes=None,
        sha256=None,
    )
    return _float_model(hub, about, lambda pictures: predict_logits(interpreter, pictures, spec))


def _float_model(hub: HubModel, about: EvaluatedModel, predict: Predictor) -> tuple[FloatModel, tuple[str, ...]]:
    """The model, and why it shows no gradients if it shows none."""
    network: RectifiedNetwork | None = RectifiedNetwork(hub.graph)
    notes: tuple[str, ...] = ()
    try:
        with torch.no_grad():
            network(torch.zeros(hub.graph.shapes[hub.graph.input]))
    except UnsupportedOpError as error:
        network = None
        notes = (f"No gradients and no layers can be shown, only occlusion maps: {error.message}.",)
    model = FloatModel(
        about=about,
        spec=hub.card.preprocess,
        labels=hub.card.labels,
        graph=hub.graph,
        network=network,
        predict=predict,
    )
    return model, notes
