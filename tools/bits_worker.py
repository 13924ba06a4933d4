"""The heavy side of `bench_bits.py`: one job in a process of its own, so that its memory is its own.

    python tools/bits_worker.py JOB.json > answer.json      (started by bench_bits.py, not by hand)

Prepares a model (float files, calibration and test pictures, float answers), compresses it as a user would, and
measures files: through the runtime, with exact sums, on what comes out of the `.ekz` where there is one.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench_accuracy import fit_pictures, write_calibration
from bench_ranges import CROPS, crop_at
from bits_jobs import CALIBRATION, FLOAT, FLOAT_TFLITE, FOLDED_WEIGHTS, WEIGHTS, Answer, Job
from bits_rows import Row, Scores
from edgekit.core.artifact import ModelCard
from edgekit.core.errors import DataError, EdgekitError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.layout import MODEL_EKZ, MODEL_TFLITE
from edgekit.core.measurement import wilson_interval
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import DataSection, ModelSection, Recipe
from edgekit.core.recipe_files import override_recipe
from edgekit.data.drawing import draw_order
from edgekit.data.locate import data_dirs
from edgekit.data.opening import open_source
from edgekit.encode.files import pack_file
from edgekit.encode.inspection import inspect_file
from edgekit.evaluate.metrics import agreement, top_k_credit
from edgekit.export.hub import HubRequest, load_hub
from edgekit.export.imported import import_run
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import unshuffle
from edgekit.models.weights import load_weights
from edgekit.pipeline import CompressRequest, compress
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.probe import peak_rss_mib

_PICTURES, _LABELS, _ANSWERS = "pictures.npy", "labels.npy", "float_answers.npy"
_VERIFIED_PICTURES = 64
_NOT_MAKING = frozenset({"load", "verify", "latency"})
_OF_MODULE = "module:"
"""Before the names of a module's weights, which are those of the graph's constants, too."""
_INTEGERS = frozenset({"i8", "u8", "i4", "u4"})

Logits = npt.NDArray[np.float32]


def prepare(job: Job) -> Answer:
    """Bring together in the model's folder what every later job and every peer reads."""
    folder = Path(job.folder)
    if job.plan.importer:
        shutil.rmtree(job.plan.model, ignore_errors=True)
        import_run(job.plan.importer, find_source(job.plan.source), Path(job.plan.model))
    hub = load_hub(HubRequest(model=job.plan.model))
    write_tflite(hub.graph, folder / FLOAT_TFLITE, hub.card)
    write_calibration(hub, open_source(job.plan.data, "calibration"), folder / CALIBRATION)
    save_arrays(folder / FOLDED_WEIGHTS, weights_of_graph(hub.graph))
    if hub.torch_logits is not None:
        module, _ = load_weights(job.plan.model)
        if any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
            save_arrays(folder / WEIGHTS, weights_of_module(module))
    source = open_source(job.plan.data, "test")
    chosen = None if job.max_pictures is None else draw_order(len(source), seed=0)[: job.max_pictures]
    crops = [crop_at(*crop) for crop in CROPS] if job.plan.is_sample else [None]
    views = [fit_pictures(source, hub.card.preprocess, chosen, crop) for crop in crops]
    np.save(folder / _PICTURES, np.concatenate([pictures for pictures, _ in views]))
    np.save(folder / _LABELS, np.stack([labels for _, labels in views]))
    write_onnx(hub.graph, folder / FLOAT, hub.card)
    answers = answers_of(folder / FLOAT, folder, hub.card.preprocess)
    np.save(folder / _ANSWERS, answers)
    return Answer(rows=(Row(scores=score(answers, folder), file_bytes=(folder / FLOAT).stat().st_size),))


def find_source(name: str) -> Path:
    """A file below a folder of `$EDGEKIT_DATA`.

    Raises:
        DataError: It is in none.
    """
    found = next((folder / name for folder in data_dirs() if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"no {name} below EDGEKIT_DATA", hint="set EDGEKIT_DATA to the folder that holds models/")
    return found


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Write an archive of arrays."""
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType] - the stubs take the keywords for its own


def weights_of_graph(graph: Graph) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of the layers, without biases, by the name of their constant."""
    names = [node.inputs[1] for node in graph.nodes if node.op in WEIGHTED_OPS]
    return {name: np.asarray(graph.constants[name], np.float32) for name in names}


def weights_of_module(module: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of the layers, without biases and BatchNorm."""
    return {f"{_OF_MODULE}{name}": one.numpy() for name, one in module.state_dict().items() if one.ndim > 1}


def compress_and_score(job: Job) -> Answer:
    """Compress as `edgekit compress` does, then measure what comes out of the `.ekz`."""
    recipe = Recipe(model=ModelSection(name=job.plan.model), data=DataSection(name=job.plan.data))
    recipe = override_recipe(recipe, [f"verify.num_pictures={_VERIFIED_PICTURES}", *job.overrides])
    run_dir = Path(job.run_dir)
    shutil.rmtree(run_dir, ignore_errors=True)
    request = CompressRequest(
        recipe=recipe,
        out_dir=run_dir,
        measure_latency=False,
        resume=run_dir.with_name(f"{run_dir.name}.work").is_dir(),
        command="tools/bench_bits.py",
    )
    cpu_before = time.process_time()
    report = compress(request).report
    cpu_s, peak = time.process_time() - cpu_before, peak_rss_mib()
    packed = run_dir / MODEL_EKZ
    row = Row(
        scores=score_file(packed, Path(job.folder)),
        file_bytes=(run_dir / MODEL_TFLITE).stat().st_size,
        ekz_bytes=packed.stat().st_size,
        weight_bytes=weight_bytes(packed),
        wall_s=sum(stage.seconds for stage in report.stages if stage.name not in _NOT_MAKING),
        cpu_s=cpu_s,
        peak_rss_mib=peak,
    )
    return Answer(rows=(row,))


def weight_bytes(packed: Path) -> int:
    """What the integer weights take in an `.ekz` file, without biases, scales, graph and labels."""
    rows = inspect_file(packed).tensors
    return sum(row.bytes_after or 0 for row in rows if len(row.shape) > 1 and row.dtype in _INTEGERS)


def score_peer(job: Job) -> Answer:
    """Measure a peer's file, and pack it."""
    path = Path(job.files[0])
    packed = pack_file(path, path.with_name(f"{path.name}.ekz"))
    row = Row(scores=score_file(path, Path(job.folder)), file_bytes=packed.original_bytes, ekz_bytes=packed.ekz_bytes)
    return Answer(rows=(row,))


def restore(job: Job) -> Answer:
    """Measure the float model with other weights, from archives that `weights_of_*` wrote and a peer changed."""
    hub = load_hub(HubRequest(model=job.plan.model))
    rows: list[Row] = []
    for name in job.files:
        with np.load(name) as archive:
            values = dict(archive)
        if all(each.startswith(_OF_MODULE) for each in values):
            graph = _graph_with(job.plan.model, values)
        else:
            graph = hub.graph.replace(constants={**hub.graph.constants, **values})
        path = Path(job.folder) / "restored.onnx"
        write_onnx(graph, path, ModelCard(model="restored", scheme="float", labels=(), preprocess=hub.card.preprocess))
        rows.append(Row(scores=score_file(path, Path(job.folder))))
        path.unlink()
    return Answer(rows=tuple(rows))


def _graph_with(model: str, values: Mapping[str, npt.NDArray[np.float32]]) -> Graph:
    module, card = load_weights(model)
    state = {name.removeprefix(_OF_MODULE): torch.from_numpy(one) for name, one in values.items()}
    module.load_state_dict({**module.state_dict(), **state})
    spec = card.preprocess
    return unshuffle(trace(module.eval(), (spec.num_channels, *spec.input_size), name="restored"))


def answers_of(path: Path, folder: Path, spec: PreprocessSpec) -> Logits:
    """What a model file says to the test pictures."""
    pictures = np.load(folder / _PICTURES, mmap_mode="r")
    return predict_logits(load_interpreter(path), pictures, spec)


def score_file(path: Path, folder: Path) -> Scores:
    """Measure a file on the test pictures."""
    spec = load_interpreter(folder / FLOAT).card
    if spec is None:
        raise DataError(f"{folder / FLOAT} has no card")
    return score(answers_of(path, folder, spec.preprocess), folder)


def score(answers: Logits, folder: Path) -> Scores:
    """Accuracy, agreement with float and the drop, with their intervals.

    Args:
        answers: float32 [views * pictures, classes], crop by crop.
        folder: Of the model: labels int64 [views, pictures], and the float model's answers.
    """
    labels = np.load(folder / _LABELS)
    exact = np.load(folder / _ANSWERS)
    right, right_float = (top_k_credit(each, labels.ravel(), 1).reshape(labels.shape) for each in (answers, exact))
    lost = (right_float - right).mean(axis=0)
    num = lost.size
    margin = 1.959964 * float(lost.std()) / math.sqrt(num)
    drop = float(lost.mean())
    return Scores(
        top1=_share(float(right.mean()), num),
        agreement=_share(agreement(answers, exact).top1, num),
        drop=(100 * drop, 100 * (drop - margin), 100 * (drop + margin)),
        num_pictures=num,
        num_views=labels.size,
    )


def _share(share: float, num: int) -> tuple[float, float, float]:
    low, high = wilson_interval(share * num, num)
    return 100 * share, 100 * low, 100 * high


TASKS: Mapping[str, Callable[[Job], Answer]] = {
    "prepare": prepare,
    "compress": compress_and_score,
    "score": score_peer,
    "restore": restore,
}


def main(words: Sequence[str]) -> None:
    """Do the job of a file, and print its answer; an error of ours is an answer, too."""
    job = msgspec.json.decode(Path(words[0]).read_bytes(), type=Job)
    torch.set_num_threads(1)
    try:
        answer = TASKS[job.task](job)
    except EdgekitError as error:
        answer = Answer(rows=(Row(error=error.message),))
    sys.stdout.write(msgspec.json.encode(answer).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
