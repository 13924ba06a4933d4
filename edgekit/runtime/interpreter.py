"""One interface over every runtime, and the one loader that picks the runtime for a file."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import IntegrityError, UsageError
from edgekit.encode.files import EXTENSION, extension_of, unpack_file
from edgekit.runtime.privacy import decline_telemetry
from edgekit.runtime.tensor import TensorSpec

RawArray: TypeAlias = npt.NDArray[Any]

_RUNTIME_MODULES = {
    ".tflite": ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow"),
    ".onnx": ("onnxruntime",),
}


class Interpreter(Protocol):
    """A loaded model file, ready to run. Not thread-safe: one thread at a time."""

    @property
    def name(self) -> str:
        """Runtime and version, e.g. "litert 2.3.0"."""
        ...

    @property
    def file_path(self) -> Path:
        """Where the file lies."""
        ...

    @property
    def input(self) -> TensorSpec:
        """The one input."""
        ...

    @property
    def output(self) -> TensorSpec:
        """The output with the answer (the first)."""
        ...

    @property
    def card(self) -> ModelCard | None:
        """What edgekit wrote into the file; None for a foreign file."""
        ...

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Names that `read_tensor` knows; only outputs unless loaded with `keep_tensors`."""
        ...

    def run(self, batch: RawArray) -> RawArray:
        """Run inference.

        Args:
            batch: [n, ...] in the type and layout of `input`; n may be 0.

        Returns:
            [n, ...] in the type of `output`, a copy of its own.

        Raises:
            UsageError: Type or shape do not fit the input.
            GraphError: The runtime failed; its message is in the error's.
        """
        ...

    def read_tensor(self, name: str) -> npt.NDArray[np.float32]:
        """Real values of a tensor in the last `run`, dequantized, in the file's own layout.

        Raises:
            UnknownNameError: No tensor of that name (loaded without `keep_tensors`, perhaps).
            UsageError: Nothing was run yet, or a batch went through one by one and only its last picture is left.
        """
        ...


class LoadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is loaded.

    Args:
        num_threads: Threads of the runtime.
        exact: Keep ONNX Runtime's integer kernels from saturating 16-bit sums on x86 without VNNI.
        keep_tensors: Keep every intermediate tensor, for `read_tensor`. Slower: LiteRT then runs without XNNPACK.
        spin: Let the threads of ONNX Runtime wait for work by spinning, which is its own default: a little faster
            when one inference follows the other, a burning core when they come ten times a second.
    """

    num_threads: int = 1
    exact: bool = True
    keep_tensors: bool = False
    spin: bool = True


def load_interpreter(
    path: Path, *, num_threads: int = 1, exact: bool = True, keep_tensors: bool = False, spin: bool = True
) -> Interpreter:
    """Load a .tflite, .onnx or .ekz file with the first runtime that is installed.

    .tflite: `ai_edge_litert`, `tflite_runtime`, `tensorflow`, in this order; .onnx: `onnxruntime`; .ekz: what was
    packed, restored into a temporary folder while it is loaded.

    Args:
        path: The file.
        num_threads: Threads of the runtime.
        exact: Exact integer sums in ONNX Runtime on x86 without VNNI (costs the speed-up of int8 there; ARM and
            newer x86 are exact anyway). Turn off only to measure the difference.
        keep_tensors: Keep intermediate tensors readable by `read_tensor`.
        spin: Whether threads of ONNX Runtime wait by spinning (`LoadSettings`).

    Raises:
        UsageError: No such file, another extension, or less than one thread.
        IntegrityError: The runtime does not accept the bytes; its message is in the error's.
        GraphError: Several inputs, or a type that is no picture's.
        MissingDependencyError: No runtime for this format; the hint says what to install.
    """
    path = Path(path)
    if num_threads < 1:
        raise UsageError(f"num_threads is {num_threads}, expected at least 1")
    if path.suffix.lower() != EXTENSION:
        _opener(path)
    if not path.is_file():
        raise UsageError(f"no model file at {path}", hint="edgekit compress writes model.tflite and model.onnx")
    if path.stat().st_size == 0:
        raise IntegrityError(f"{path} is empty, 0 bytes", hint="write or copy it again")
    settings = LoadSettings(num_threads=num_threads, exact=exact, keep_tensors=keep_tensors, spin=spin)
    if path.suffix.lower() != EXTENSION:
        return _opener(path)(path, settings)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        original = unpack_file(path, Path(folder) / path.with_suffix(extension_of(path)).name).path
        interpreter: Any = _opener(original)(original, settings)
    interpreter.file_path = path  # what messages name; the runtime has mapped or read what it needs
    return interpreter


def preload_runtime(path: Path) -> None:
    """Import the runtime that a file will need, so that the time to load the file can be told apart.

    Does nothing when it is missing: `load_interpreter` says so.

    Raises:
        UsageError: Neither .tflite nor .onnx.
    """
    extension = Path(path).suffix.lower()
    if extension == EXTENSION:
        if not Path(path).is_file():
            return
        extension = extension_of(Path(path))
    _opener(Path(path).with_suffix(extension))
    decline_telemetry()
    for module in _RUNTIME_MODULES[extension]:
        try:
            importlib.import_module(module)
        except (ImportError, AttributeError, SystemError):
            continue
        return


def _opener(path: Path) -> Callable[[Path, LoadSettings], Interpreter]:
    """The adapter for a file name. Imported here, so that an absent runtime costs nothing until it is needed."""
    extension = path.suffix.lower()
    if extension == ".tflite":
        from edgekit.runtime.litert import open_tflite

        return open_tflite
    if extension == ".onnx":
        from edgekit.runtime.onnx_runtime import open_onnx

        return open_onnx
    raise UsageError(f"{path} is no .tflite, .onnx or .ekz file", hint="the extension decides which runtime loads it")
