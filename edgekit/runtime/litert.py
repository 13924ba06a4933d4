"""TFLite files through LiteRT, or through the older packages that have the same interpreter."""

from __future__ import annotations

import importlib
import importlib.metadata
import operator
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError, IntegrityError, MissingDependencyError, UnknownNameError
from edgekit.runtime.batching import RawArray, check_batch, check_counts, not_kept, run_in_slices
from edgekit.runtime.card import read_tflite_card
from edgekit.runtime.interpreter import Interpreter, LoadSettings
from edgekit.runtime.native_log import without_chatter
from edgekit.runtime.tensor import TensorSpec, guess_layout, supported_dtype

# (module, its class, distribution, short name), best first. Imported by name: the linter's contract says that
# nothing here imports tensorflow, and on a board that has nothing else, its interpreter is still welcome.
RUNTIMES = (
    ("ai_edge_litert.interpreter", "Interpreter", "ai-edge-litert", "litert"),
    ("tflite_runtime.interpreter", "Interpreter", "tflite-runtime", "tflite_runtime"),
    ("tensorflow", "lite.Interpreter", "tensorflow", "tensorflow"),
)

FILE_IDENTIFIER = b"TFL3"
"""At offset 4 of every TFLite flatbuffer."""

_Details: TypeAlias = dict[str, Any]


class NativeInterpreter(Protocol):
    """What the three packages' `Interpreter` have in common, and all that is used of it."""

    def allocate_tensors(self) -> None:
        """Make room for the tensors; builds the plan."""
        ...

    def get_input_details(self) -> list[_Details]:
        """Name, shape, type, grid and index of each input."""
        ...

    def get_output_details(self) -> list[_Details]:
        """The same of each output."""
        ...

    def get_tensor_details(self) -> list[_Details]:
        """The same of every tensor."""
        ...

    def set_tensor(self, tensor_index: int, value: RawArray) -> None:
        """Copy an input in."""
        ...

    def get_tensor(self, tensor_index: int) -> RawArray:
        """Copy a tensor out."""
        ...

    def invoke(self) -> None:
        """Run."""
        ...


def open_tflite(path: Path, settings: LoadSettings) -> Interpreter:
    """Load a .tflite file with the first runtime that works. Errors as `load_interpreter`'s."""
    with path.open("rb") as stream:
        start = stream.read(8)
    if start[4:8] != FILE_IDENTIFIER:
        raise IntegrityError(f"{path} is no TFLite file: bytes 4 to 7 are {start[4:8]!r}, expected {FILE_IDENTIFIER!r}")
    failures: list[str] = []
    for module, class_path, distribution, short_name in RUNTIMES:
        native = _create((module, class_path), path, settings, failures)
        if native is not None:
            return TFLiteInterpreter(native, f"{short_name} {_version(distribution)}", path, settings.keep_tensors)
    raise MissingDependencyError(
        f"no TFLite runtime works here for {path.name}: {'; '.join(failures)}",
        hint="pip install ai-edge-litert (or, with numpy < 2, tflite-runtime)",
    )


def _create(
    location: tuple[str, str], path: Path, settings: LoadSettings, failures: list[str]
) -> NativeInterpreter | None:
    """Load the file with one package; None, and a line in `failures`, when the package is missing or broken.

    tflite-runtime 2.14 installs beside numpy 2 and imports, but dies on use with AttributeError or SystemError.
    """
    module, class_path = location
    try:
        make: Any = operator.attrgetter(class_path)(importlib.import_module(module))
        with without_chatter(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LiteRT warns that kept tensors take memory; they were asked for
            native = cast(
                "NativeInterpreter",
                make(
                    model_path=str(path),
                    num_threads=settings.num_threads,
                    experimental_preserve_all_tensors=settings.keep_tensors,
                ),
            )
            native.allocate_tensors()
    except (ImportError, AttributeError, SystemError) as error:
        failures.append(f"{module.partition('.')[0]}: {error}")
        return None
    except (ValueError, RuntimeError) as error:
        raise IntegrityError(f"{path} cannot be loaded: {error}", hint="write or copy it again") from error
    return native


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # built from source, or the system's package


class TFLiteInterpreter:
    """A .tflite file as an `Interpreter`, whose properties are plain attributes here."""

    def __init__(self, native: NativeInterpreter, name: str, path: Path, keep_tensors: bool) -> None:
        inputs, outputs = native.get_input_details(), native.get_output_details()
        check_counts([str(one["name"]) for one in inputs], [str(one["name"]) for one in outputs], path, keep_tensors)
        self.name = name
        self.file_path = path
        self.card = read_tflite_card(path)
        self.input = _describe(inputs[0], path)
        self.output = _describe(outputs[0], path)
        self._native = native
        self._input_index = int(inputs[0]["index"])
        self._output_index = int(outputs[0]["index"])
        self._batch_size = int(inputs[0]["shape"][0]) if len(inputs[0]["shape"]) else 1
        self._readable = _by_name(native.get_tensor_details() if keep_tensors else outputs)
        self.tensor_names = tuple(self._readable)
        self._last_count = 0

    def run(self, batch: RawArray) -> RawArray:
        """Run inference, picture by picture (as `Interpreter.run`).

        Resizing the input to the batch fails on every file whose RESHAPE holds the batch as a constant, and where it
        works it saves nothing (within 7 % of CPU time on three files, either way).
        """
        batch = check_batch(batch, self.input, self.file_path)
        self._last_count = batch.shape[0]
        return run_in_slices(batch, self._batch_size, self.output, self._run_slice)

    def read_tensor(self, name: str) -> npt.NDArray[np.float32]:
        """Real values of a tensor after a `run` of one picture (as `Interpreter.read_tensor`)."""
        details = self._readable.get(name)
        if details is None:
            raise UnknownNameError("tensor", name, self._readable)
        if self._last_count < 1 or self._last_count > self._batch_size:
            raise not_kept(self.file_path, self._last_count, self._batch_size)
        values: RawArray = self._native.get_tensor(details["index"])
        return _dequantize(values, details)

    def _run_slice(self, part: RawArray) -> RawArray:
        try:
            self._native.set_tensor(self._input_index, part)
            self._native.invoke()
            answer: RawArray = self._native.get_tensor(self._output_index)
        except (ValueError, RuntimeError) as error:
            raise GraphError(f"{self.file_path}: {self.name} failed: {error}") from error
        return answer


def _describe(details: _Details, path: Path) -> TensorSpec:
    name = str(details["name"])
    sizes = tuple(int(size) for size in details["shape"])
    shape = (1, *sizes[1:])
    scale, zero_point = details["quantization"]
    dtype = supported_dtype(str(np.dtype(details["dtype"])), name, str(path))
    is_quantized = dtype in ("int8", "uint8") and float(scale) != 0.0
    return TensorSpec(
        name=name,
        shape=shape,
        dtype=dtype,
        layout=guess_layout(shape, preferred="NHWC"),
        scale=float(scale) if is_quantized else None,
        zero_point=int(zero_point) if is_quantized else None,
    )


def _by_name(tensors: Iterable[_Details]) -> dict[str, _Details]:
    """Details by name; of several tensors with one name the first, as the graph's own order has it."""
    readable: dict[str, _Details] = {}
    for details in tensors:
        name = str(details["name"])
        if name:
            readable.setdefault(name, details)
    return readable


def _dequantize(values: RawArray, details: _Details) -> npt.NDArray[np.float32]:
    """Real values of any tensor of the file; weights may have a scale per channel."""
    parameters: dict[str, Any] = details["quantization_parameters"]
    scales = np.asarray(parameters["scales"], np.float32)
    if scales.size == 0 or values.dtype.kind not in "iu":
        return values.astype(np.float32)
    shape = [1] * values.ndim
    if scales.size > 1:
        shape[int(parameters["quantized_dimension"])] = -1
    zero_points = np.asarray(parameters["zero_points"], np.int64)
    steps = values.astype(np.int64) - (np.reshape(zero_points, shape) if zero_points.size > 1 else zero_points)
    return (steps * np.reshape(scales, shape)).astype(np.float32)
