"""NNCodec (ISO/IEC 15938-17) beside .ekz: the same integers, and the same float weights at equal error.

A yardstick only: its licence grants no patents. It asks for older packages than ours, so it gets an environment of its
own with numpy alone (`pip install numpy`, `pip install --no-deps nncodec==2.1.3`, which compiles for minutes), and its
coder is called without its Python layers. That only makes it faster than its own commands are.
"""

from __future__ import annotations

import importlib
import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarking import Figure, Sample, interleave, median_sample, note, quotient, run_child, timed
from edgekit.encode.packing import find_tensors, pack
from edgekit.encode.tensors import elements
from edgekit.encode.unpacking import MemorySink, unpack
from peers import Peers, start_peers

Tensors: TypeAlias = Mapping[str, Any]
"""Arrays by name."""

QPS = (-38, -35, -32, -29, -26, -23, -20)
"""Quantization parameters: the step halves with every four."""

QUICK_QPS = (-32, -26)
MOST_LEVELS = 127.0
_MANY_LEVELS = 30000.0
_FEWEST_LEVELS = 0.5
_BISECTIONS = 16
_TOLERANCE = 1.01

_WRITE_WEIGHTS = """
import sys
import numpy as np
from edgekit.models.weights import load_weights
module, _ = load_weights("efficientnet_lite0")
weights = {name: one.numpy() for name, one in module.state_dict().items() if one.ndim > 1}
np.savez(sys.argv[1], **weights)
"""
_UNPACK = """
import sys
from pathlib import Path
from edgekit.encode.files import unpack_file
from edgekit.runtime.probe import peak_rss_mib
unpack_file(Path(sys.argv[1]), Path(sys.argv[1] + ".out"))
print(peak_rss_mib())
"""


def integer_tensors(path: Path) -> dict[str, Any]:
    """The int8 and uint8 weights of a model file, uint8 as distances from 128."""
    content = path.read_bytes()
    found: dict[str, Any] = {}
    for index, tensor in enumerate(find_tensors(content)[1]):
        if tensor.role == "tensor" and tensor.element in {"i8", "u8"} and len(tensor.shape) > 1:
            values = elements(content[tensor.offset : tensor.offset + tensor.length], tensor.element)
            shift = 128 if tensor.element == "u8" else 0
            found[f"t{index}"] = (values.astype(np.int16) - shift).astype(np.int8).reshape(tensor.shape)
    return found


def onnx_of(tensors: Tensors) -> bytes:
    """A model file with nothing but these initializers."""
    onnx: Any = importlib.import_module("onnx")
    initializers = [onnx.numpy_helper.from_array(one, name) for name, one in tensors.items()]
    graph = onnx.helper.make_graph([], "weights", [], [], initializers)
    return onnx.helper.make_model(graph).SerializeToString()


def compare_integers(path: Path, python: str, num_rounds: int) -> dict[str, Figure]:
    """The same integers through both coders: bytes, and times in turns."""
    tensors = integer_tensors(path)
    size = sum(one.size for one in tensors.values())
    content = onnx_of(tensors)
    packed = pack(content).content
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as name, start_peers(python) as peers:
        source, streams = Path(name) / "tensors.npz", Path(name) / "streams.npz"
        np.savez(source, **tensors)
        jobs = {"encode": {"input": source, "output": streams}, "decode": {"input": streams, "tensors": source}}
        if _ask(peers, "encode", jobs["encode"]) is None:
            return {}
        figures: dict[str, Figure] = {
            "integers.file": path.name,
            "integers.num_weights": size,
            "integers.ekz_bytes": len(packed),
            "integers.nncodec_bytes": _stream_bytes(streams),
        }
        samples = interleave(
            {
                "ekz_encode": lambda: timed(lambda: pack(content)),
                "nncodec_encode": lambda: _ask(peers, "encode", jobs["encode"]),
                "ekz_decode": lambda: timed(lambda: _unpacked(packed)),
                "nncodec_decode": lambda: _ask(peers, "decode", jobs["decode"]),
            },
            num_rounds,
        )
    for phase, taken in samples.items():
        figures[f"integers.{phase}_cpu_s"] = seconds = _cpu_s(taken)
        figures[f"integers.{phase}_mweights_per_cpu_s"] = None if not seconds else round(size / seconds / 1e6, 2)
    ours, theirs = _cpu_s(samples["ekz_decode"]), _cpu_s(samples["nncodec_decode"])
    return figures | {"integers.decode_speed_ratio": quotient(theirs, ours)}


def compare_floats(python: str, num_rounds: int, qps: Sequence[int]) -> dict[str, Figure]:
    """Real float weights (EfficientNet-Lite0): NNCodec at several steps, .ekz at the squared error of each tensor."""
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as name, start_peers(python) as peers:
        folder = Path(name)
        source = folder / "weights.npz"
        child = run_child([sys.executable, "-c", _WRITE_WEIGHTS, str(source)])
        if child.exit_code:
            note("efficientnet_lite0 not measured: pip install edgekit[imagenet]")
            return {}
        tensors = dict(np.load(source))
        figures: dict[str, Figure] = {"floats.num_weights": sum(one.size for one in tensors.values())}
        for qp in qps:
            measured = _compare_at(qp, tensors, folder, peers, num_rounds)
            if not measured:
                return {}
            note(f"NNCodec qp {qp}: {measured['nncodec_bytes']} bytes, .ekz {measured['ekz_bytes']}")
            figures |= {f"floats.qp_minus_{-qp}.{key}": value for key, value in measured.items()}
        streams = folder / f"streams{qps[0]}.npz"
        with start_peers(python) as fresh:
            _ask(fresh, "decode", {"input": streams, "tensors": source})
            figures["floats.nncodec_decode_peak_rss_mib"] = (
                None if not fresh.peak_rss_mib else round(fresh.peak_rss_mib)
            )
        child = run_child([sys.executable, "-c", _UNPACK, str(folder / f"{qps[0]}.ekz")])
        figures["floats.ekz_decode_peak_rss_mib"] = round(float(child.stdout))
    return figures


def _compare_at(qp: int, tensors: Tensors, folder: Path, peers: Peers, num_rounds: int) -> dict[str, Figure]:
    source, streams, restored = folder / "weights.npz", folder / f"streams{qp}.npz", folder / "restored.npz"
    encode = {"input": source, "output": streams, "qp": qp}
    decode = {"input": streams, "tensors": source}
    if _ask(peers, "encode", encode) is None or _ask(peers, "decode", decode | {"output": restored}) is None:
        return {}
    with np.load(restored) as theirs:
        wanted = {name: squared_error(theirs[name], one) for name, one in tensors.items()}
    content, error, num_beyond = at_equal_errors(tensors, wanted, is_per_channel=True)
    packed = pack(content).content
    (folder / f"{qp}.ekz").write_bytes(packed)
    one_step, one_step_error, _ = at_equal_errors(tensors, wanted, is_per_channel=False)
    energy = sum(squared_error(one, 0 * one) for one in tensors.values())
    samples = interleave(
        {
            "ekz_encode": lambda: timed(lambda: pack(content)),
            "nncodec_encode": lambda: _ask(peers, "encode", encode),
            "ekz_decode": lambda: timed(lambda: _unpacked(packed)),
            "nncodec_decode": lambda: _ask(peers, "decode", decode),
        },
        num_rounds,
    )
    return {
        "nncodec_bytes": _stream_bytes(streams),
        "ekz_bytes": len(packed),
        "size_ratio": quotient(len(packed), _stream_bytes(streams)),
        "ekz_one_step_bytes": len(pack(one_step).content),
        "nncodec_sqnr_db": _decibels(energy, sum(wanted.values())),
        "ekz_sqnr_db": _decibels(energy, error),
        "ekz_one_step_sqnr_db": _decibels(energy, one_step_error),
        "num_tensors_beyond_8_bits": num_beyond,
        **{f"{phase}_cpu_s": _cpu_s(taken) for phase, taken in samples.items()},
    }


def at_equal_errors(tensors: Tensors, wanted: Mapping[str, float], *, is_per_channel: bool) -> tuple[bytes, float, int]:
    """A model file of integers and scales with the wanted squared error of each tensor.

    Returns:
        The file, the squared error in all, and how many tensors do not reach theirs.
    """
    levels: dict[str, npt.NDArray[Any]] = {}
    total = 0.0
    num_beyond = 0
    for name, weights in tensors.items():
        integers, scales = at_equal_error(weights, wanted[name], is_per_channel=is_per_channel)
        error = squared_error(integers * scales, weights)
        num_beyond += error > _TOLERANCE * wanted[name]
        total += error
        levels |= {name: integers, f"{name}.scale": scales.ravel()}
    return onnx_of(levels), total, num_beyond


def at_equal_error(
    weights: npt.NDArray[Any], wanted: float, *, is_per_channel: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Integers on a grid whose squared error is the one wanted, by bisection.

    Args:
        weights: Floats.
        wanted: Squared error.
        is_per_channel: A step for each channel (the first axis), which its largest weight decides, and at most 127
            levels a side; otherwise one step, and as many levels as it takes.

    Returns:
        Integers, int8 where they fit; scales, with as many axes as the weights.
    """
    axes = tuple(range(1 if is_per_channel else 0, weights.ndim))
    largest = np.abs(weights).max(axis=axes, keepdims=True)
    low, high = _FEWEST_LEVELS, MOST_LEVELS if is_per_channel else _MANY_LEVELS
    for _ in range(_BISECTIONS):
        middle = float(np.sqrt(low * high))
        integers, scales = _on_grid(weights, largest, middle)
        if squared_error(integers * scales, weights) > wanted:
            low = middle
        else:
            high = middle
    integers, scales = _on_grid(weights, largest, high)
    return integers.astype(np.int8 if np.abs(integers).max() <= MOST_LEVELS else np.int16), scales


def _on_grid(
    weights: npt.NDArray[Any], largest: npt.NDArray[Any], num_levels: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    scales = np.maximum(largest / num_levels, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(weights / scales), scales


def _decibels(energy: float, error: float) -> float:
    return round(10 * float(np.log10(energy / error)), 3)


def squared_error(values: npt.NDArray[Any], weights: npt.NDArray[Any]) -> float:
    """Sum of the squared differences."""
    return float(((values.astype(np.float64) - weights) ** 2).sum())


def _unpacked(packed: bytes) -> bytearray:
    sink = MemorySink()
    unpack(io.BytesIO(packed), len(packed), sink)
    return sink.content


def _ask(peers: Peers, phase: str, settings: Mapping[str, object]) -> Sample | None:
    return peers.ask(f"nncodec_{phase}", **{name: str(value) for name, value in settings.items()})


def _stream_bytes(path: Path) -> int:
    with np.load(path) as streams:
        return sum(streams[name].size for name in streams.files)


def _cpu_s(samples: Sequence[Sample]) -> float | None:
    middle = median_sample(samples)
    return None if middle is None else round(middle.cpu_s, 4)
