"""ONNX files through ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
import importlib
import platform
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from edgekit.core.artifact import CARD_KEY
from edgekit.core.errors import GraphError, IntegrityError, MissingDependencyError, UnknownNameError
from edgekit.runtime.batching import RawArray, check_batch, check_counts, not_kept, run_in_slices
from edgekit.runtime.card import parse_card
from edgekit.runtime.interpreter import Interpreter, LoadSettings
from edgekit.runtime.privacy import decline_telemetry
from edgekit.runtime.tensor import TensorSpec, guess_layout, supported_dtype

CPU_INFO_PATH = Path("/proc/cpuinfo")

_DTYPE_NAMES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
}

_LOG_ERRORS_ONLY = 3


def open_onnx(path: Path, settings: LoadSettings) -> Interpreter:
    """Load an .onnx file. Errors as `load_interpreter`'s."""
    decline_telemetry()
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependencyError(
            f"no ONNX runtime here for {path.name}: {error}", hint="pip install 'onnxruntime>=1.23'"
        ) from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = settings.num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    if not settings.spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if settings.exact and saturates_int8_sums():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        native: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _native_errors() as error:
        raise IntegrityError(f"{path} cannot be loaded: {error}", hint="write or copy it again") from error
    return OnnxInterpreter(
        cast("NativeSession", native), f"onnxruntime {runtime.__version__}", path, settings.keep_tensors
    )


@functools.cache
def saturates_int8_sums() -> bool:
    """Whether this CPU's integer kernels saturate: x86 with neither AVX-512 VNNI nor AVX-VNNI.

    Their u8 * s8 products are summed in pairs in 16 bits there (VPMADDUBSW), which costs up to 9 dB. Unknown counts
    as yes: exact and slow is right, fast and wrong is not.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    try:
        text = CPU_INFO_PATH.read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_vnni" not in flags and "avx_vnni" not in flags


def _native_errors() -> tuple[type[Exception], ...]:
    """The exception types of ONNX Runtime, which have no common base but Exception."""
    state: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = (
        "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf",
        "ModelLoaded", "NoModel", "NoSuchFile", "NotImplemented", "RuntimeException",
    )  # fmt: skip
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names if hasattr(state, name)))


class NativeValue(Protocol):
    """ONNX Runtime's description of an input or output."""

    name: str
    type: str
    shape: list[int | str | None]


class NativeMetadata(Protocol):
    """What is used of a session's metadata."""

    custom_metadata_map: dict[str, str]


class NativeSession(Protocol):
    """What is used of `onnxruntime.InferenceSession`."""

    def get_inputs(self) -> list[NativeValue]:
        """Describe the inputs."""
        ...

    def get_outputs(self) -> list[NativeValue]:
        """Describe the outputs."""
        ...

    def get_modelmeta(self) -> NativeMetadata:
        """Read what the file says about itself."""
        ...

    def run(self, output_names: list[str], input_feed: dict[str, RawArray]) -> list[RawArray]:
        """Run and return the outputs named."""
        ...


class OnnxInterpreter:
    """An .onnx file as an `Interpreter`, whose properties are plain attributes here.

    A symbolic batch dimension takes whole batches, a fixed one takes slices.
    """

    def __init__(self, session: NativeSession, name: str, path: Path, keep_tensors: bool) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self.tensor_names = tuple(value.name for value in outputs)
        check_counts([value.name for value in inputs], self.tensor_names, path, keep_tensors)
        metadata = session.get_modelmeta().custom_metadata_map
        self.name = name
        self.file_path = path
        self.card = parse_card(metadata[CARD_KEY], path) if CARD_KEY in metadata else None
        self.input = _describe(inputs[0], path)
        self.output = _describe(outputs[0], path)
        if 0 in self.input.shape:
            raise GraphError(
                f"{path}: input {self.input.name!r} has sizes {inputs[0].shape}, expected fixed height and width",
                hint="export the model again with a fixed input size",
            )
        batch = inputs[0].shape[0] if inputs[0].shape else 1
        self._batch_size = batch if isinstance(batch, int) and batch > 0 else None
        self._session = session
        self._kept: dict[str, RawArray] = {}
        self._last_count = 0
        self._errors = _native_errors()

    def run(self, batch: RawArray) -> RawArray:
        """Run inference on the whole batch at once where the file allows it (as `Interpreter.run`)."""
        batch = check_batch(batch, self.input, self.file_path)
        self._last_count = batch.shape[0]
        slice_size = self._batch_size or max(1, batch.shape[0])
        return run_in_slices(batch, slice_size, self.output, self._run_slice)

    def read_tensor(self, name: str) -> npt.NDArray[np.float32]:
        """Values of an output after a `run` (as `Interpreter.read_tensor`); [n, ...] where the batch is symbolic."""
        if name not in self.tensor_names:
            raise UnknownNameError("tensor", name, self.tensor_names)
        if self._last_count < 1 or (self._batch_size is not None and self._last_count > self._batch_size):
            raise not_kept(self.file_path, self._last_count, self._batch_size)
        return self._kept[name].astype(np.float32)

    def _run_slice(self, part: RawArray) -> RawArray:
        try:
            answers: list[RawArray] = self._session.run(list(self.tensor_names), {self.input.name: part})
        except self._errors as error:
            raise GraphError(f"{self.file_path}: {self.name} failed: {error}") from error
        self._kept = dict(zip(self.tensor_names, answers, strict=True))
        return answers[0]


def _describe(value: NativeValue, path: Path) -> TensorSpec:
    """Name, shape and type of an input or output. A symbolic size other than the batch's counts as unknown, 0."""
    name = value.name
    dtype = supported_dtype(_DTYPE_NAMES.get(value.type, value.type), name, str(path))
    sizes = tuple(size if isinstance(size, int) else 0 for size in value.shape)
    shape = (1, *sizes[1:])
    return TensorSpec(name=name, shape=shape, dtype=dtype, layout=guess_layout(shape, preferred="NCHW"))
