"""A quantized MobileNet V1 or V2 of TensorFlow's, as a .tflite file: google-coral/test_data, TensorFlow's model zoos.

Howard et al. 2017, arXiv:1704.04861; Sandler et al. 2018, arXiv:1801.04381; quantized as by Jacob et al. 2018,
arXiv:1712.05877: real = scale * (integer - zero_point), per tensor or per channel, BatchNorm folded.

The weights come back as the real numbers that the integers stand for, into our own network built by TensorFlow's
conventions (SAME padding, the file's activation, biases for BatchNorm). The whole graph is held against that network,
operator by operator, so that nothing else passes for a MobileNet. Of the 1001 classes of the older ImageNet files the
first, background, is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.models.architecture import ActivationName, BuildOptions
from edgekit.models.checkpoint import CheckpointCard
from edgekit.models.importer import Imported, Importer
from edgekit.models.tflite_file import TfliteFile, TfliteOperator, TfliteTensor, dequantize, read_tflite
from edgekit.models.weights import read_imagenet_labels
from edgekit.models.zoo import build_model, check_options, find_architecture

NUM_IMAGENET_CLASSES = 1000
CROP_FRACTION = 0.875
"""Of TensorFlow's evaluation of these networks; it stands in no file."""

_HINT = "expected a quantized MobileNet V1 or V2, such as mobilenet_v2_1.0_224_quant.tflite"
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_ACTIVATIONS: dict[str, ActivationName] = {"RELU": "relu", "RELU6": "relu6"}
_TORCH_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "RELU", nn.ReLU6: "RELU6"}
_TO_OIHW = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (0, 1)}

Floats: TypeAlias = npt.NDArray[np.float32]


def read(content: bytes) -> Imported:
    """Decode the file into the weights of our `mobilenet_v1` or `mobilenet_v2`.

    Raises:
        IntegrityError: It is no such file; the first operator that does not fit is named.
    """
    file = read_tflite(content)
    options = _options(file)
    num_dropped = int(options.num_classes == NUM_IMAGENET_CLASSES + 1)
    num_classes = options.num_classes - num_dropped
    is_imagenet = num_classes == NUM_IMAGENET_CLASSES
    card = CheckpointCard(
        options=msgspec.structs.replace(options, num_classes=num_classes),
        labels=read_imagenet_labels() if is_imagenet else (),
        preprocess=_preprocessing(file, CROP_FRACTION if is_imagenet else 1.0),
        dataset="imagenet" if is_imagenet else "unknown",
        num_epochs=0,
        command="edgekit import mobilenet-tflite FILE",
    )
    state = _Walk(file).load(build_model(options))
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][num_dropped:].clone()
    return Imported(state=state, card=card)


def _options(file: TfliteFile) -> BuildOptions:
    """The network that the file should be: told from its shortcuts, its widest layers and its input."""
    weighted = [operator for operator in file.operators if operator.kind in _WEIGHTED]
    if len(weighted) < 3 or len(file.inputs) != 1 or len(file.outputs) != 1:
        raise IntegrityError(
            f"the TFLite file has {len(weighted)} weighted operators, {len(file.inputs)} inputs, "
            f"{len(file.outputs)} outputs: no MobileNet",
            hint=_HINT,
        )
    has_shortcuts = any(operator.kind == "ADD" for operator in file.operators)
    # V1 ends with 1024 channels times the width. V2 has 1280 whatever the width, but 320 times the width before them.
    operator, full_width = (weighted[-2], 320) if has_shortcuts else (weighted[-1], 1024)
    width = _weight(file, operator).shape[-1] / full_width
    activation = weighted[0].activation
    if activation not in _ACTIVATIONS:
        raise IntegrityError(f"the first operator has activation {activation}, expected RELU6 or RELU", hint=_HINT)
    shape = file.tensors[file.inputs[0]].shape
    if len(shape) != 4 or shape[0] != 1 or shape[1] != shape[2] or shape[3] not in {1, 3}:
        raise IntegrityError(f"the input has shape {list(shape)}, expected [1, size, size, 1 or 3]", hint=_HINT)
    options = BuildOptions(
        variant="mobilenet_v2" if has_shortcuts else "mobilenet_v1",
        width=None if width == 1.0 else width,
        num_classes=_weight(file, weighted[-1]).shape[0],
        in_channels=shape[3],
        input_size=shape[1],
        padding="same",
        activation=_ACTIVATIONS[activation],
        batch_norm=False,
    )
    try:
        check_options(options, find_architecture(options.variant))
    except UsageError as error:
        raise IntegrityError(
            f"the TFLite file holds no network that can be built: {error.message}", hint=_HINT
        ) from error
    return options


def _weight(file: TfliteFile, operator: TfliteOperator) -> TfliteTensor:
    """Second input of a weighted operator; refused unless the file stores it."""
    if len(operator.inputs) < 2 or operator.inputs[1] < 0 or file.tensors[operator.inputs[1]].values is None:
        raise IntegrityError(f"{operator.kind} has no weight in the file", hint=_HINT)
    return file.tensors[operator.inputs[1]]


def _preprocessing(file: TfliteFile, crop_fraction: float) -> PreprocessSpec:
    """Picture to input, as the grid of the input says: its integers are the pixels."""
    tensor = file.tensors[file.inputs[0]]
    offsets = {"UINT8": 0, "INT8": 128}
    if tensor.type not in offsets or (tensor.scale.size, tensor.zero_point.size) != (1, 1):
        raise IntegrityError(
            f"input {tensor.name!r} is {tensor.type} with {tensor.scale.size} scales, "
            "expected UINT8 or INT8 on one grid",
            hint="only quantized files are read here",
        )
    scale, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0]) + offsets[tensor.type]
    if not (math.isfinite(scale) and scale > 0 and 0 <= zero_point <= 255):
        raise IntegrityError(f"input {tensor.name!r} has scale {scale} and zero-point {int(tensor.zero_point[0])}")
    _, height, width, channels = tensor.shape
    return PreprocessSpec(
        input_size=(height, width),
        num_channels=channels,
        mean=(zero_point / 255,) * channels,
        std=(1 / (255 * scale),) * channels,
        crop_fraction=crop_fraction,
    )


class _Walk:
    """Follows the file's operators in order, and holds each against what our network does at that place."""

    def __init__(self, file: TfliteFile) -> None:
        self._file = file
        self._operators = iter(enumerate(file.operators))
        self._current = file.inputs[0]
        self._state: dict[str, Tensor] = {}

    def load(self, network: nn.Module) -> dict[str, Tensor]:
        """Weights and biases by their names in a network.

        Args:
            network: A MobileNet built with SAME padding and without BatchNorm.
        """
        features = network.get_submodule("features")
        for index, block in enumerate(features.children()):
            before = self._current
            for path, unit in _conv_units(block, f"features.{index}"):
                self._take_conv(path, unit)
            if getattr(block, "has_shortcut", False):
                self._take_shortcut(before)
        self._take_pool()
        self._take_classifier(network.get_submodule("classifier"))
        self._finish()
        return self._state

    def _next(self, expected: str) -> tuple[int, TfliteOperator]:
        """The next operator that computes something, which reads what the last one made."""
        for index, operator in self._operators:
            if self._current not in operator.inputs or len(operator.outputs) != 1:
                raise self._misfit(index, operator.kind, f"{expected} on the output of the operator before")
            if not self._passes_through(operator):
                return index, operator
            self._current = operator.outputs[0]
        raise IntegrityError(f"the TFLite file ends where a MobileNet goes on with {expected}", hint=_HINT)

    def _passes_through(self, operator: TfliteOperator) -> bool:
        """Whether an operator gives on what it gets: another grid, or another shape of one vector."""
        shape = self._file.tensors[operator.outputs[0]].shape
        is_vector = math.prod(shape) == shape[-1] if shape else False
        return operator.kind == "QUANTIZE" or (operator.kind in {"RESHAPE", "SQUEEZE"} and is_vector)

    def _take_conv(self, path: str, unit: nn.Sequential) -> None:
        position, conv = next((name, layer) for name, layer in unit.named_children() if isinstance(layer, nn.Conv2d))
        expected = _describe_unit(conv, unit)
        index, operator = self._next(expected)
        got = self._describe_operator(operator)
        if got != expected:
            raise self._misfit(index, got, expected)
        self._keep(f"{path}.{position}", operator)

    def _describe_operator(self, operator: TfliteOperator) -> str:
        """A convolution of the file in the words of `_describe`, and what of it ours never has."""
        if operator.kind not in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
            return operator.kind
        shape = _weight(self._file, operator).shape
        if len(shape) != 4 or (operator.kind == "DEPTHWISE_CONV_2D" and shape[0] != 1):
            return f"{operator.kind} with a weight of shape {list(shape)}"
        height, width, num_inputs = shape[1:]
        num_outputs = shape[0] if operator.kind == "CONV_2D" else num_inputs
        words = _describe(
            operator.kind, (height, width), (num_inputs, num_outputs), operator.strides, operator.activation
        )
        if (height, width) != (1, 1) and operator.padding != "SAME":
            words += f", padding {operator.padding}"
        return words if operator.dilations == (1, 1) else f"{words}, dilation {operator.dilations}"

    def _take_shortcut(self, before: int) -> None:
        index, operator = self._next("ADD of the block's input")
        if operator.kind != "ADD" or sorted(operator.inputs) != sorted((before, self._current)):
            raise self._misfit(index, operator.kind, "ADD of the block's input")
        if operator.activation != "NONE":
            raise self._misfit(index, f"ADD with {operator.activation}", "ADD without activation")
        self._current = operator.outputs[0]

    def _take_pool(self) -> None:
        expected = "AVERAGE_POOL_2D or MEAN over the whole map"
        index, operator = self._next(expected)
        shape, output = self._file.tensors[self._current].shape, self._file.tensors[operator.outputs[0]].shape
        fits = operator.kind == "MEAN" or (operator.kind == "AVERAGE_POOL_2D" and operator.window == shape[1:3])
        if not fits or math.prod(output) != shape[-1] or operator.activation != "NONE":
            got = f"{operator.kind} from shape {list(shape)} to {list(output)}, window {operator.window}"
            raise self._misfit(index, got, expected)
        self._current = operator.outputs[0]

    def _take_classifier(self, classifier: nn.Module) -> None:
        num_outputs, num_inputs = classifier.get_parameter("weight").shape
        expected = f"CONV_2D 1x1 or FULLY_CONNECTED, {num_inputs} to {num_outputs} channels"
        index, operator = self._next(expected)
        shape = _weight(self._file, operator).shape if operator.kind in _WEIGHTED else ()
        fits = shape in {(num_outputs, 1, 1, num_inputs), (num_outputs, num_inputs)}
        if operator.kind not in {"CONV_2D", "FULLY_CONNECTED"} or not fits or operator.activation != "NONE":
            raise self._misfit(
                index, f"{operator.kind} with a weight of shape {list(shape)} and {operator.activation}", expected
            )
        self._keep("classifier", operator)
        self._state["classifier.weight"] = self._state["classifier.weight"].reshape(num_outputs, num_inputs)

    def _finish(self) -> None:
        """Nothing may follow that changes the order of the answers."""
        for index, operator in self._operators:
            is_monotone = operator.kind in {"SOFTMAX", "DEQUANTIZE"} or self._passes_through(operator)
            if not is_monotone or self._current not in operator.inputs:
                raise self._misfit(index, operator.kind, "SOFTMAX, or the end")
            self._current = operator.outputs[0]
        if self._current != self._file.outputs[0]:
            raise IntegrityError("the output of the TFLite file is not the last operator's", hint=_HINT)

    def _keep(self, path: str, operator: TfliteOperator) -> None:
        """Store the weight and bias of an operator under a layer's name."""
        weight, source = _weight(self._file, operator), self._file.tensors[operator.inputs[0]]
        if source.scale.size != 1:
            raise IntegrityError(
                f"tensor {source.name!r} is {source.type} with {source.scale.size} scales, expected one grid",
                hint="only quantized files are read here",
            )
        real = dequantize(weight).transpose(_TO_OIHW[operator.kind])
        self._state[f"{path}.weight"] = torch.from_numpy(np.ascontiguousarray(real))
        num_outputs = real.shape[0]
        biases = np.zeros(num_outputs, np.float32)
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = self._file.tensors[operator.inputs[2]]
            if bias.shape != (num_outputs,):
                raise IntegrityError(f"bias {bias.name!r} has shape {list(bias.shape)}, expected [{num_outputs}]")
            biases = dequantize(bias, scale=weight.scale.astype(np.float64) * float(source.scale[0]))
        self._state[f"{path}.bias"] = torch.from_numpy(biases)
        if not (np.isfinite(real).all() and np.isfinite(biases).all()):
            raise IntegrityError(f"{operator.kind} {weight.name!r} has weights that are not finite")
        self._current = operator.outputs[0]

    def _misfit(self, index: int, got: str, expected: str) -> IntegrityError:
        output = self._file.operators[index].outputs
        name = self._file.tensors[output[0]].name if output else ""
        return IntegrityError(
            f"operator {index} of the TFLite file ({name[:60]}): expected {expected}, got {got}", hint=_HINT
        )


def _conv_units(block: nn.Module, path: str) -> Iterator[tuple[str, nn.Sequential]]:
    """The convolutions of a block with their activations, in the order of the data."""
    for name, part in block.named_modules(prefix=path):
        if isinstance(part, nn.Sequential) and any(isinstance(layer, nn.Conv2d) for layer in part):
            yield name, part


def _describe_unit(conv: nn.Conv2d, unit: nn.Sequential) -> str:
    """A convolution of ours, with its activation, in the words of `_describe`."""
    activations = [_TORCH_ACTIVATIONS[type(layer)] for layer in unit if type(layer) in _TORCH_ACTIVATIONS]
    return _describe(
        "DEPTHWISE_CONV_2D" if conv.groups > 1 else "CONV_2D",
        (conv.kernel_size[0], conv.kernel_size[1]),
        (conv.in_channels, conv.out_channels),
        (conv.stride[0], conv.stride[1]),
        activations[0] if activations else "NONE",
    )


def _describe(
    kind: str, window: tuple[int, int], channels: tuple[int, int], strides: tuple[int, int], activation: str
) -> str:
    """One convolution in words: two are the same when their words are.

    >>> _describe("CONV_2D", (3, 3), (3, 32), (2, 2), "RELU6")
    'CONV_2D 3x3, 3 to 32 channels, stride 2x2, RELU6'
    """
    height, width = window
    step = f"{strides[0]}x{strides[1]}"
    return f"{kind} {height}x{width}, {channels[0]} to {channels[1]} channels, stride {step}, {activation}"


IMPORTER = Importer(
    title="Quantized MobileNet V1 or V2 in TFLite",
    source="mobilenet_v*_quant.tflite of google-coral/test_data (Apache-2.0)",
    read=read,
)
