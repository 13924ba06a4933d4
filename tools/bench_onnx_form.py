"""Which form of an int8 ONNX file is fastest: the numbers of docs/decisions/0006.

    python tools/bench_onnx_form.py [--quick]

Whole networks at 224 pixels with random weights, quantized by edgekit, batch 1, one thread, ONNX Runtime. Compared:
activations stored as uint8 and as int8, with `session.x64quantprecision` (`exact`) and without (`fast`), and channel
shuffles written as Gather or as Reshape, Transpose, Reshape (`views`). Interleaved; CPU time, median of the rounds.
Prints one JSON document: `<model>_<form>_cpu_ms`, and `<model>_<form>_max_steps`, the largest difference of an output
from the exact integer reference.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph, Node
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.export.onnx_writer import build_onnx
from edgekit.export.torch_graph import trace
from edgekit.models.zoo import BuildOptions, build_model
from edgekit.quantize.calibration import calibrate
from edgekit.quantize.execute import run_float
from edgekit.quantize.ptq import quantize_static
from edgekit.quantize.reference import quantize_input, run_integer

MODELS = ("mobilenet_v1", "mobilenet_v2", "squeezenet1_1", "shufflenet_v1_x1_0_g3", "shufflenet_v2_x1_0")
QUICK_MODELS = ("shufflenet_v2_x0_5",)
ROUNDS, RUNS = 25, 4
QUICK_ROUNDS, QUICK_RUNS = 5, 2
CARD = ModelCard(
    model="bench",
    scheme="static_wi8_ai8",
    labels=(),
    preprocess=PreprocessSpec(input_size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
)


def random_graph(variant: str) -> Graph:
    """A network whose BatchNorms have had something to normalize."""
    torch.manual_seed(0)
    module = build_model(BuildOptions(variant=variant))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    return trace(module, (3, 224, 224), name=variant)


def shuffles_as_views(model: QuantizedGraph) -> QuantizedGraph:
    """The same network with every ChannelShuffle spelled Reshape, Transpose, Reshape."""
    graph, nodes, shapes = model.graph, list[Node](), dict(model.graph.shapes)
    activations = dict(model.activations)
    for node in graph.nodes:
        if node.op != "ChannelShuffle":
            nodes.append(node)
            continue
        _, channels, height, width = shapes[node.output]
        groups = node.int("groups")
        split, swapped = f"{node.name}/split", f"{node.name}/swapped"
        shapes[split] = (1, groups, channels // groups, height * width)
        shapes[swapped] = (1, channels // groups, groups, height * width)
        activations |= dict.fromkeys((split, swapped), activations[node.output])
        view = {"shape": shapes[split]}
        nodes.append(Node(name=split, op="Reshape", inputs=node.inputs, outputs=(split,), attrs=view))
        perm = {"perm": (0, 2, 1, 3)}
        nodes.append(Node(name=swapped, op="Transpose", inputs=(split,), outputs=(swapped,), attrs=perm))
        back = {"shape": shapes[node.output]}
        nodes.append(Node(name=node.name, op="Reshape", inputs=(swapped,), outputs=node.outputs, attrs=back))
    return QuantizedGraph(
        graph=graph.replace(nodes=nodes, shapes=shapes),
        scheme=model.scheme,
        activations=activations,
        constants=model.constants,
    )


def open_session(model: onnx.ModelProto, *, exact: bool) -> ort.InferenceSession:
    """One thread; `exact` asks for sums that never saturate."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def median_cpu_ms(
    sessions: Mapping[str, ort.InferenceSession], x: np.ndarray, rounds: int, runs: int
) -> dict[str, float]:
    """Interleaved medians of CPU time for one inference."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        session.run(None, {"input": x})
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.process_time()
            for _ in range(runs):
                session.run(None, {"input": x})
            times[name].append((time.process_time() - start) / runs * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def bench_model(variant: str, rounds: int, runs: int) -> dict[str, float]:
    """All forms of one network."""
    graph = random_graph(variant)
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    model = quantize_static(graph, calibrate(graph, [run_float(graph, x)]), QuantizeSection())
    expected = run_integer(model, quantize_input(model, x))[graph.output].astype(int)
    grid = model.activations[graph.output]
    sessions = {"float": open_session(build_onnx(graph, CARD), exact=False)}
    for kind in ("uint8", "int8"):
        for exact in (True, False):
            name = f"{kind}_{'exact' if exact else 'fast'}"
            sessions[name] = open_session(build_onnx(model, CARD, activations=kind), exact=exact)
    if any(node.op == "ChannelShuffle" for node in graph.nodes):
        sessions["uint8_fast_views"] = open_session(build_onnx(shuffles_as_views(model), CARD), exact=False)
    results = {
        f"{variant}_{name}_cpu_ms": round(value, 2) for name, value in median_cpu_ms(sessions, x, rounds, runs).items()
    }
    for name, session in sessions.items():
        if name != "float":
            real = np.asarray(session.run(None, {"input": x})[0])
            steps = np.abs(np.rint(real / grid.scale) + grid.zero_point - expected)
            results[f"{variant}_{name}_max_steps"] = int(steps.max())
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small network, a few rounds")
    quick = parser.parse_args().quick
    ort.set_default_logger_severity(3)
    torch.set_num_threads(1)
    results: dict[str, float | str] = {"onnxruntime": ort.__version__}
    for variant in QUICK_MODELS if quick else MODELS:
        rounds, runs = (QUICK_ROUNDS, QUICK_RUNS) if quick else (ROUNDS, RUNS)
        results |= bench_model(variant, rounds, runs)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
