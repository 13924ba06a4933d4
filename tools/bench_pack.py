"""Size and speed of the .ekz packer on real model files, beside gzip, xz, zstd and constriction's range coder.

    python tools/bench_pack.py [--quick] [--models FOLDER] [--peers-python PATH] [--only-nncodec] [FILE ...]

Every .tflite and .onnx file of the folder (default: ../shared/data/models) and every FILE. Sizes in bytes; times are
CPU time, the median of the rounds, contestants in turns; weights per second count the elements of the tensors that are
coded. `synthetic_8_bit` and `synthetic_6_bit` are one matrix of 2048 x 1024 normal integers each, whose int8 grid uses
about 250 and 60 levels. zstandard and constriction take part where they are installed, NNCodec where the peers'
interpreter has it (`nncodec_yardstick`). One JSON document on standard output.
"""

from __future__ import annotations

import gzip
import importlib
import io
import lzma
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarking import (
    NUM_ROUNDS,
    REPOSITORY,
    Figure,
    Sample,
    add_peers_argument,
    arguments,
    interleave,
    machine_figures,
    median_sample,
    note,
    print_document,
    run_child,
    timed,
)
from edgekit.core.entropy import order0_bits
from edgekit.encode.grids import Grid, decode_matrix, encode_matrix
from edgekit.encode.lanes import LaneDecoder, LaneEncoder
from edgekit.encode.packing import pack
from edgekit.encode.pieces import Codebook, Copy, Ends, Extremes, Numbers, Scaled
from edgekit.encode.tables import NUM_CONTEXTS, Tables
from edgekit.encode.unpacking import MemorySink, PieceBytes, unpack
from nncodec_yardstick import QPS, QUICK_QPS, compare_floats, compare_integers

MODELS_DIR = REPOSITORY.parent / "shared" / "data" / "models"
QUICK_NAMES = ("vww_96_int8.tflite", "mobilenet_v1_0.25_128_quant.tflite")
INTEGERS_NAME = "tf2_mobilenet_v2_1.0_224_ptq.tflite"
"""Whose integers go through NNCodec too."""

SYNTHETIC = (("synthetic_8_bit", 42.0), ("synthetic_6_bit", 10.0))
LANES = 1024
XZ_PRESET = 9 | lzma.PRESET_EXTREME


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--models", type=Path, default=MODELS_DIR, help="folder of .tflite and .onnx files")
    add_peers_argument(parser)
    parser.add_argument("--only-nncodec", action="store_true", help="leave out everything else")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="more files")
    options = parser.parse_args(words)
    num_rounds = 1 if options.quick else NUM_ROUNDS
    figures = machine_figures() | {"rounds": num_rounds}
    found = sorted(path for path in options.models.glob("*") if path.suffix in {".tflite", ".onnx"})
    chosen = [path for path in found if not options.quick or path.name in QUICK_NAMES]
    for path in [] if options.only_nncodec else [*chosen, *options.files]:
        measured = measure_file(path, num_rounds)
        note(f"{path.name}: {measured[f'{key_of(path)}.ekz_bytes']} bytes")
        figures |= measured
    for name, spread in () if options.only_nncodec else SYNTHETIC:
        figures |= measure_tensor(name, spread, num_rounds)
    integers = next((path for path in found if path.name == INTEGERS_NAME), None)
    if integers is not None:
        measured = compare_integers(integers, options.peers_python, num_rounds)
        if measured:
            measured |= compare_floats(options.peers_python, num_rounds, QUICK_QPS if options.quick else QPS)
        figures |= measured
    print_document(figures)


def key_of(path: Path) -> str:
    """A file's name as the beginning of a key."""
    return path.stem.lower().replace("-", "_").replace(".", "_")


def measure_file(path: Path, num_rounds: int) -> dict[str, Figure]:
    """Sizes and times of one file."""
    content = path.read_bytes()
    packed = pack(content).content
    placed = unpacked(packed)
    num_weights = sum(elements_of(one) for one in placed)
    samples = interleave(
        {"encode": lambda: timed(lambda: pack(content)), "decode": lambda: timed(lambda: unpacked(packed))}, num_rounds
    )
    key = key_of(path)
    figures: dict[str, Figure] = {
        f"{key}.original_bytes": len(content),
        f"{key}.ekz_bytes": len(packed),
        f"{key}.gzip9_bytes": len(gzip.compress(content, 9)),
        f"{key}.xz9e_bytes": len(lzma.compress(content, preset=XZ_PRESET)),
        f"{key}.zstd19_bytes": zstd_bytes(content),
        f"{key}.num_weights": num_weights,
    }
    figures |= speeds(key, samples, num_weights)
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        source = Path(folder) / "model.ekz"
        source.write_bytes(packed)
        words = "import sys; from pathlib import Path; from edgekit.encode.files import unpack_file; "
        words += "from edgekit.runtime.probe import peak_rss_mib; "
        words += "unpack_file(Path(sys.argv[1]), Path(sys.argv[1] + '.out')); print(peak_rss_mib())"
        child = run_child([sys.executable, "-c", words, str(source)])
        # what the child says of itself: wait4 starts from the peak of this process
        figures[f"{key}.unpack_peak_rss_mib"] = round(float(child.stdout))
    return figures


def elements_of(one: PieceBytes) -> int:
    """Elements that a piece really codes."""
    if isinstance(one.piece, Copy | Scaled | Extremes | Ends):
        return 0
    if isinstance(one.piece, Numbers):
        return one.piece.size
    mask = one.piece.mask if isinstance(one.piece, Codebook) else None
    grid = mask or one.piece.grid
    return grid.rows * grid.columns


def unpacked(packed: bytes) -> list[PieceBytes]:
    """Unpack into memory."""
    return unpack(io.BytesIO(packed), len(packed), MemorySink())[1]


def speeds(key: str, samples: Mapping[str, Sequence[Sample]], num_weights: int) -> dict[str, Figure]:
    """CPU times, and millions of weights in a second of them."""
    figures: dict[str, Figure] = {}
    for phase, taken in samples.items():
        middle = median_sample(taken)
        if middle is not None:
            figures[f"{key}.{phase}_cpu_s"] = round(middle.cpu_s, 4)
            figures[f"{key}.{phase}_mweights_per_cpu_s"] = round(num_weights / max(middle.cpu_s, 1e-9) / 1e6, 2)
    return figures


def zstd_bytes(content: bytes) -> int | None:
    """Size by zstd -19; None where zstandard is missing."""
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ImportError:
        return None
    return len(zstandard.ZstdCompressor(level=19).compress(content))


def measure_tensor(name: str, spread: float, num_rounds: int) -> dict[str, Figure]:
    """The coder alone, beside constriction's range coder with one static distribution."""
    values = np.clip(np.rint(np.random.default_rng(0).normal(0, spread, (2048, 1024))), -127, 127).astype(np.int64)
    levels = (values - values.min()).astype(np.uint8)
    low = int(values.min())
    grid = Grid(2048, 1024, int(levels.max()) + 1, low, 0, NUM_CONTEXTS, round(16 * float(np.abs(values).mean())))
    coded, states = encode(levels, grid)
    peer = constriction_coder(levels)
    calls: dict[str, Callable[[], object]] = {
        "encode": lambda: encode(levels, grid),
        "decode": lambda: decode(coded, states, grid),
    }
    if peer is not None:
        calls |= {"constriction_encode": peer[0], "constriction_decode": peer[1]}
    samples = interleave({phase: lambda call=call: timed(call) for phase, call in calls.items()}, num_rounds)
    return {
        f"{name}.order0_bytes": round(order0_bits(levels) / 8),
        f"{name}.ekz_bytes": 2 * coded.size + 4 * states.size,
        f"{name}.constriction_bytes": None if peer is None else 4 * peer[0]().size,
    } | speeds(name, samples, levels.size)


def encode(levels: npt.NDArray[Any], grid: Grid) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Words and states of one matrix."""
    coded = encode_matrix(levels, grid, Tables(is_flat=False), LANES)
    encoder = LaneEncoder(LANES)
    return encoder.encode_steps(coded.freqs, coded.starts, coded.step_sizes), encoder.states()


def decode(words: npt.NDArray[Any], states: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """The matrix again."""
    decoder = LaneDecoder(states)
    decoder.feed(words)
    return decode_matrix(grid, Tables(is_flat=False), decoder, LANES)


def constriction_coder(levels: npt.NDArray[Any]) -> tuple[Callable[[], Any], Callable[[], Any]] | None:
    """Encode and decode by constriction with one histogram; None where it is missing."""
    try:
        stream: Any = importlib.import_module("constriction").stream
    except ImportError:
        return None
    symbols = levels.ravel().astype(np.int32)
    share = np.bincount(symbols).astype(np.float32) / symbols.size
    model = stream.model.Categorical(share, perfect=False)

    def encode() -> Any:  # noqa: ANN401 - words of a library without types
        encoder = stream.queue.RangeEncoder()
        encoder.encode(symbols, model)
        return encoder.get_compressed()

    words = encode()
    return encode, lambda: stream.queue.RangeDecoder(words).decode(model, symbols.size)


if __name__ == "__main__":
    main()
