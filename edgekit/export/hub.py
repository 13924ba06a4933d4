"""From what a user calls a model to the hub graph: a name, a run folder, a checkpoint, or an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import UsageError
from edgekit.core.graph import Graph
from edgekit.core.layout import FLOAT_ONNX
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_reader import read_onnx
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import unshuffle
from edgekit.models.counting import count_params
from edgekit.models.weights import CHECKPOINT_NAME, load_weights, resolve_options
from edgekit.models.zoo import SE_PREFIX, build_model, model_name, with_sizes, with_squeeze_excite
from edgekit.runtime.card import require_classifier
from edgekit.runtime.preprocess import normalize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What an ONNX file without a card, and untrained weights, are taken to expect."""
GRAY_MEAN, GRAY_STD = (0.459,), (0.226,)
"""The same of pictures turned gray (ITU-R BT.601), for untrained weights of a network for gray ones."""
FOREIGN_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".pb", ".h5", ".keras", ".mlmodel", ".caffemodel", ".engine"})


class HubRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which model is wanted.

    Args:
        model: Alias, catalogue name, run folder, checkpoint, or .onnx file.
        width: Width multiplier, for `untrained` only; None for the variant's own.
        input_size: Pixels; None for the model's own (an untrained variant's is its paper's).
        untrained: Random weights (for tests and benchmarks).
        squeeze_excite: A squeeze-and-excitation in every residual block; trained weights have it or not.
        seed: Of the random weights.
        fallback_spec: Preprocessing for an ONNX file that carries none; None for ImageNet's.
    """

    model: str
    width: float | None = None
    input_size: int | None = None
    untrained: bool = False
    squeeze_excite: bool = False
    seed: int = 0
    fallback_spec: PreprocessSpec | None = None


class HubModel(msgspec.Struct, frozen=True, kw_only=True):
    """A float model in hub form.

    Args:
        graph: The network.
        card: What travels in its files (scheme "float").
        dataset: Name of the dataset it was trained on; None when unknown.
        num_params: Parameters of the torch model, or of the graph for an ONNX file.
        trained: False for random weights.
        torch_logits: uint8 pictures [n, h, w, c] -> logits of the torch model; None for an ONNX file.
        torch_inputs: Name of a layer and such pictures -> what the torch model gives that layer; None for an ONNX file.
    """

    graph: Graph
    card: ModelCard
    dataset: str | None
    num_params: int
    trained: bool
    torch_logits: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]] | None
    torch_inputs: Callable[[str, npt.NDArray[np.uint8]], npt.NDArray[np.float32]] | None = None


def load_hub(request: HubRequest) -> HubModel:
    """Load a model and bring it into hub form.

    Raises:
        UnknownNameError: No such name; the nearest is the hint.
        UsageError: No weights at hand, a size that the weights do not have, a file of another kind.
        GraphError, UnsupportedOpError: An ONNX file that is no classifier for us.
        CheckpointError, IntegrityError: Damaged or foreign weights.
    """
    path = Path(request.model).expanduser()
    if path.suffix.lower() == ".onnx":
        return _load_onnx(request, path)
    if path.suffix.lower() == ".tflite":
        raise UsageError(
            f"{path} is a TFLite file: compression starts from float weights", hint="give the .onnx it was made from"
        )
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        raise UsageError(
            f"cannot read models in {path.suffix} files: {path}; expected .onnx, or a checkpoint of edgekit train",
            hint="export the model to ONNX first, with fixed height and width",
        )
    if request.untrained:
        return _load_untrained(request)
    if (path / FLOAT_ONNX).is_file() and not (path / CHECKPOINT_NAME).is_file():
        return _load_onnx(request, path / FLOAT_ONNX)  # a run of compress holds its model as ONNX
    return _load_trained(request)


def _load_onnx(request: HubRequest, path: Path) -> HubModel:
    options = (("width", request.width is not None), ("untrained", request.untrained), ("se", request.squeeze_excite))
    for what, is_given in options:
        if is_given:
            raise UsageError(
                f"{path} is a finished model: --{what} cannot be applied to it",
                hint=f"leave --{what} out, or name an architecture of `edgekit zoo`",
            )
    graph, card = read_onnx(path, input_size=request.input_size)
    require_classifier(card, path)
    graph = unshuffle(graph)
    _, channels, height, width = graph.shapes[graph.input]
    spec = card.preprocess if card else request.fallback_spec
    spec = spec or PreprocessSpec(
        input_size=(height, width),
        num_channels=channels,
        mean=IMAGENET_MEAN if channels == 3 else (0.5,),
        std=IMAGENET_STD if channels == 3 else (0.5,),
        crop_fraction=0.875 if height > 64 else 1.0,
    )
    labels = card.labels if card else ()
    return HubModel(
        graph=graph,
        card=ModelCard(model=card.model if card else path.stem, scheme="float", labels=labels, preprocess=spec),
        dataset=None,
        num_params=graph.num_params,
        trained=True,
        torch_logits=None,
    )


def _load_trained(request: HubRequest) -> HubModel:
    module, card = load_weights(request.model)
    name = model_name(card.options)
    for what, wanted, got in (
        ("width", request.width, card.options.width or 1.0),
        ("input size", request.input_size, card.options.input_size),
    ):
        if wanted is not None and wanted != got:
            raise UsageError(
                f"the weights of {request.model} have {what} {got:g}, asked for {wanted:g}",
                hint="train that size with `edgekit train`, or use --untrained",
            )
    if request.squeeze_excite and not name.startswith(SE_PREFIX):
        raise UsageError(
            f"the weights of {request.model} are of {name}, without squeeze-and-excitation",
            hint=f"train it with `edgekit train {name} --se`, or use --untrained",
        )
    return _from_torch(module, card.labels, card.preprocess, name, dataset=card.dataset)


def _load_untrained(request: HubRequest) -> HubModel:
    if request.model == "":
        raise UsageError("no model given")
    options = with_sizes(resolve_options(request.model), width=request.width, input_size=request.input_size)
    options = with_squeeze_excite(options) if request.squeeze_excite else options
    torch.manual_seed(request.seed)
    module = build_model(options).eval()
    channels, size = options.in_channels, options.input_size
    mean, std = (GRAY_MEAN, GRAY_STD) if channels == 1 else (IMAGENET_MEAN, IMAGENET_STD)
    spec = PreprocessSpec(input_size=(size, size), num_channels=channels, mean=mean, std=std)
    _settle_batch_norm(module, (channels, size, size))
    return _from_torch(module, (), spec, model_name(options), dataset=None)


def _settle_batch_norm(module: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Give random weights the BatchNorm statistics of one random batch, so that activations keep a sane range."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not norms:
        return
    for layer in norms:
        layer.momentum = 1.0
    module.train()
    with torch.no_grad():
        module(torch.randn(4, *input_shape))
    module.eval()
    for layer in norms:
        layer.momentum = 0.1


def _from_torch(
    module: nn.Module, labels: tuple[str, ...], spec: PreprocessSpec, name: str, *, dataset: str | None
) -> HubModel:
    graph = unshuffle(trace(module, (spec.num_channels, *spec.input_size), name=name))

    @torch.inference_mode()
    def torch_logits(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return module(torch.from_numpy(normalize(pictures, spec))).numpy()

    def torch_inputs(layer: str, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        seen: list[torch.Tensor] = []
        hook = module.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            torch_logits(pictures)
        finally:
            hook.remove()
        return seen[-1].numpy()

    return HubModel(
        graph=graph,
        card=ModelCard(model=name, scheme="float", labels=labels, preprocess=spec),
        dataset=dataset,
        num_params=count_params(module),
        trained=dataset is not None,
        torch_logits=torch_logits,
        torch_inputs=torch_inputs,
    )
