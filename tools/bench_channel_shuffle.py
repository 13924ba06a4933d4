"""Which TFLite spelling of a channel shuffle is fastest: the numbers of docs/decisions/0003.

    python tools/bench_channel_shuffle.py [--quick]

Chains of eight shuffles, in every form, on the shapes of ShuffleNet V1 (3 groups) and V2 (2 groups) at 224 pixels,
float and int8, batch 1, one thread, LiteRT with its default delegate. Forms are interleaved; CPU time, median of the
rounds. Every form is first checked to give the same values. Prints one JSON document: microseconds of one shuffle
(`<type>_<HxWxC>_g<groups>_<form>_cpu_us`), and into how many delegate partitions the chain of eight fell
(`..._partitions`; 0 is not delegated at all, 1 is best).

There are two situations. In most forms one tensor holds all groups (ShuffleNet V1). In the `joined_` forms the groups
are tensors that a concatenation joins first and a split takes apart after (V2): the time includes both, and
`joined_none` is without any shuffle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.core.quant import QuantParams
from edgekit.export.tflite_buffer import Options, TfliteBuilder

CHAIN = 8
ROUNDS, RUNS = 25, 10
QUICK_ROUNDS, QUICK_RUNS = 5, 3
Shape = tuple[int, int, int, int]
SHAPES: Sequence[Shape] = (
    (28, 28, 60, 3),
    (28, 28, 116, 2),
    (14, 14, 120, 3),
    (14, 14, 232, 2),
    (7, 7, 240, 3),
    (7, 7, 464, 2),
)
CODES = schema.BuiltinOperator


class Chain:
    """A model under construction for one shape [H, W, C] in groups.

    Args:
        shape: Height, width, channels, groups.
        is_int8: Element type of everything.
    """

    def __init__(self, shape: Shape, *, is_int8: bool) -> None:
        self.height, self.width, self.channels, self.groups = shape
        self.per_group = self.channels // self.groups
        self.is_int8 = is_int8
        self.builder = TfliteBuilder()

    @property
    def map_dims(self) -> tuple[int, ...]:
        """Shape of the whole map."""
        return (1, self.height, self.width, self.channels)

    @property
    def part_dims(self) -> tuple[int, ...]:
        """Shape of one group's map."""
        return (1, self.height, self.width, self.per_group)

    def tensor(self, dims: Sequence[int]) -> int:
        """A new activation."""
        return self.builder.add_activation("t", dims, np.int8 if self.is_int8 else np.float32, self.grid(0.02))

    def grid(self, scale: float) -> QuantParams | None:
        """A grid in an int8 chain."""
        if not self.is_int8:
            return None
        return QuantParams(scale=np.full(1, scale, np.float32), zero_point=np.zeros(1, np.int32))

    def add(self, code: int, inputs: Sequence[int], dims: Sequence[int], options: Options, version: int = 0) -> int:
        """An operator with one output."""
        output = self.tensor(dims)
        self.builder.add_operator((code, version or (2 if self.is_int8 else 1)), inputs, [output], options)
        return output

    def index(self, values: int | Sequence[int]) -> int:
        """An integer constant."""
        return self.builder.add_index_constant("index", values)

    def reshape(self, x: int, dims: Sequence[int]) -> int:
        """RESHAPE."""
        return self.add(CODES.RESHAPE, [x, self.index(dims)], dims, schema.ReshapeOptionsT(newShape=list(dims)), 1)

    def transpose(self, x: int, dims: Sequence[int], perm: Sequence[int]) -> int:
        """RESHAPE to dims, TRANSPOSE."""
        grouped = self.reshape(x, dims)
        version = 4 if len(dims) > 4 else 0
        swapped = [dims[axis] for axis in perm]
        return self.add(CODES.TRANSPOSE, [grouped, self.index(perm)], swapped, schema.TransposeOptionsT(), version)

    def swap(self, x: int, dims: Sequence[int], perm: Sequence[int]) -> int:
        """RESHAPE to dims, TRANSPOSE, RESHAPE to the map."""
        return self.reshape(self.transpose(x, dims, perm), self.map_dims)

    def split(self, x: int) -> list[int]:
        """SPLIT into groups."""
        parts = [self.tensor(self.part_dims) for _ in range(self.groups)]
        options = schema.SplitOptionsT(numSplits=self.groups)
        self.builder.add_operator((CODES.SPLIT, 2 if self.is_int8 else 1), [self.index(3), x], parts, options)
        return parts

    def concat(self, parts: Sequence[int], dims: Sequence[int], axis: int) -> int:
        """CONCATENATION."""
        return self.add(CODES.CONCATENATION, parts, dims, schema.ConcatenationOptionsT(axis=axis))


def transpose_5d(chain: Chain, x: int) -> int:
    """[1, H, W, g, n]."""
    return chain.swap(x, (1, chain.height, chain.width, chain.groups, chain.per_group), (0, 1, 2, 4, 3))


def transpose_4d(chain: Chain, x: int) -> int:
    """[1, H * W, g, n]."""
    return chain.swap(x, (1, chain.height * chain.width, chain.groups, chain.per_group), (0, 1, 3, 2))


def transpose_3d(chain: Chain, x: int) -> int:
    """[H * W, g, n]."""
    return chain.swap(x, (chain.height * chain.width, chain.groups, chain.per_group), (0, 2, 1))


def transpose_twice(chain: Chain, x: int) -> int:
    """To channel-major order, channels already shuffled, and back: two TRANSPOSE, but of wide matrices."""
    positions = chain.height * chain.width
    planes = chain.transpose(x, (1, positions, chain.groups, chain.per_group), (0, 3, 2, 1))
    return chain.swap(planes, (1, chain.channels, positions), (0, 2, 1))


def gather(chain: Chain, x: int) -> int:
    """GATHER of the channels."""
    index = chain.index(_order(chain).tolist())
    return chain.add(CODES.GATHER, [x, index], chain.map_dims, schema.GatherOptionsT(axis=3))


def permuting_conv(chain: Chain, x: int) -> int:
    """CONV_2D 1x1 with a permutation matrix: exact in int8 too, and channels * channels bytes larger."""
    matrix = np.eye(chain.channels, dtype=np.int8 if chain.is_int8 else np.float32)[_order(chain)]
    weight = chain.builder.add_constant("w", matrix.reshape(chain.channels, 1, 1, -1), chain.grid(1.0))
    zeros = np.zeros(chain.channels, np.int32 if chain.is_int8 else np.float32)
    bias = chain.builder.add_constant("b", zeros, chain.grid(0.02))
    options = schema.Conv2DOptionsT(padding=1, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    return chain.add(CODES.CONV_2D, [x, weight, bias], chain.map_dims, options, 3 if chain.is_int8 else 1)


def split_concat(chain: Chain, x: int) -> int:
    """SPLIT, then CONCATENATION along a new innermost axis: no TRANSPOSE."""
    positions = chain.height * chain.width
    parts = [chain.reshape(part, (positions, chain.per_group, 1)) for part in chain.split(x)]
    return chain.reshape(chain.concat(parts, (positions, chain.per_group, chain.groups), 2), chain.map_dims)


def split_pack(chain: Chain, x: int) -> int:
    """SPLIT, then PACK along a new innermost axis."""
    options = schema.PackOptionsT(valuesCount=chain.groups, axis=4)
    return chain.reshape(
        chain.add(CODES.PACK, chain.split(x), (*chain.part_dims, chain.groups), options), chain.map_dims
    )


def joined_none(chain: Chain, parts: Sequence[int]) -> int:
    """CONCATENATION alone."""
    return chain.concat(parts, chain.map_dims, 3)


def joined_transpose_4d(chain: Chain, parts: Sequence[int]) -> int:
    """CONCATENATION of channels, then as `transpose_4d`."""
    return transpose_4d(chain, joined_none(chain, parts))


def joined_rows(chain: Chain, parts: Sequence[int]) -> int:
    """CONCATENATION of rows, then one wide TRANSPOSE [g, H * W * n]."""
    stacked = chain.concat(parts, (1, chain.groups * chain.height, chain.width, chain.per_group), 1)
    wide = chain.height * chain.width * chain.per_group
    return chain.swap(stacked, (1, chain.groups, wide), (0, 2, 1))


def joined_rows_twice(chain: Chain, parts: Sequence[int]) -> int:
    """CONCATENATION of rows, then as `transpose_twice`."""
    positions = chain.height * chain.width
    stacked = chain.concat(parts, (1, chain.groups * chain.height, chain.width, chain.per_group), 1)
    planes = chain.transpose(stacked, (1, chain.groups, positions, chain.per_group), (0, 3, 1, 2))
    return chain.swap(planes, (1, chain.channels, positions), (0, 2, 1))


ALONE: Mapping[str, Callable[[Chain, int], int]] = {
    "transpose_4d": transpose_4d,
    "transpose_5d": transpose_5d,
    "transpose_3d": transpose_3d,
    "transpose_twice": transpose_twice,
    "gather": gather,
    "permuting_conv": permuting_conv,
    "split_concat": split_concat,
    "split_pack": split_pack,
}
JOINED: Mapping[str, Callable[[Chain, Sequence[int]], int]] = {
    "joined_transpose_4d": joined_transpose_4d,
    "joined_rows": joined_rows,
    "joined_rows_twice": joined_rows_twice,
    "joined_none": joined_none,
}


def _order(chain: Chain) -> np.ndarray:
    return np.arange(chain.channels).reshape(chain.groups, chain.per_group).T.ravel()


def build(form: str, shape: Shape, *, is_int8: bool) -> bytes:
    """A chain of shuffles in one form."""
    chain = Chain(shape, is_int8=is_int8)
    if form in ALONE:
        first = x = chain.tensor(chain.map_dims)
        for _ in range(CHAIN):
            x = ALONE[form](chain, x)
        return bytes(chain.builder.build("chain", [first], [x], {}))
    inputs = parts = [chain.tensor(chain.part_dims) for _ in range(chain.groups)]
    for _ in range(CHAIN):
        parts = chain.split(JOINED[form](chain, parts))
    return bytes(chain.builder.build("chain", inputs, parts, {}))


def load(content: bytes, whole: np.ndarray) -> Interpreter:
    """An interpreter that has run once on the map, given as one tensor or in parts."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    inputs = interpreter.get_input_details()
    for tensor, part in zip(inputs, np.split(whole, len(inputs), axis=3), strict=True):
        interpreter.set_tensor(tensor["index"], np.ascontiguousarray(part))
    interpreter.invoke()
    return interpreter


def compare(shape: Shape, *, is_int8: bool, rounds: int, runs: int) -> dict[str, float]:
    """Times and partitions of every form on one shape.

    Raises:
        ValueError: A form gives other values than the rest.
    """
    height, width, channels, groups = shape
    whole = np.random.default_rng(0).integers(-128, 128, (1, height, width, channels))
    whole = whole.astype(np.int8 if is_int8 else np.float32)
    interpreters = {form: load(build(form, shape, is_int8=is_int8), whole) for form in (*ALONE, *JOINED)}
    expected = whole
    for _ in range(CHAIN):
        grouped = expected.reshape(height * width, groups, channels // groups)
        expected = grouped.swapaxes(1, 2).reshape(whole.shape)
    for form, interpreter in interpreters.items():
        outputs = [interpreter.get_tensor(tensor["index"]) for tensor in interpreter.get_output_details()]
        if form != "joined_none" and not np.array_equal(np.concatenate(outputs, axis=3), expected):
            raise ValueError(f"{form} does not shuffle {shape}")
    times: dict[str, list[float]] = {form: [] for form in interpreters}
    for _ in range(rounds):
        for form, interpreter in interpreters.items():
            start = time.process_time_ns()
            for _ in range(runs):
                interpreter.invoke()
            times[form].append((time.process_time_ns() - start) / (runs * CHAIN * 1000))
    prefix = f"{'int8' if is_int8 else 'float'}_{height}x{width}x{channels}_g{groups}"
    figures: dict[str, float] = {}
    for form, interpreter in interpreters.items():
        names = [node["op_name"] for node in interpreter._get_ops_details()]  # noqa: SLF001 - the only view of them
        figures[f"{prefix}_{form}_cpu_us"] = round(statistics.median(times[form]), 1)
        figures[f"{prefix}_{form}_partitions"] = names.count("DELEGATE")
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time the TFLite forms of a channel shuffle.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, some seconds")
    quick = bool(parser.parse_args().quick)
    rounds, runs = (QUICK_ROUNDS, QUICK_RUNS) if quick else (ROUNDS, RUNS)
    figures: dict[str, float] = {"rounds": rounds, "runs_per_round": runs, "chain": CHAIN}
    for is_int8 in (False, True):
        for shape in SHAPES:
            figures |= compare(shape, is_int8=is_int8, rounds=rounds, runs=runs)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
