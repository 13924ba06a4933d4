"""The public functions: what the commands do, callable. See `edgekit/__init__.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit import embedding, pipeline
from edgekit.core.artifact import Artifact
from edgekit.core.evaluation import Evaluation
from edgekit.core.explanation import Explanation
from edgekit.core.measurement import Accuracy
from edgekit.core.prediction import Prediction
from edgekit.core.recipe import DataSection, ModelSection, Recipe
from edgekit.core.recipe_files import load_recipe, override_recipe
from edgekit.core.robustness import Robustness, RobustnessSettings
from edgekit.encode.files import PackedFile, pack_file, unpack_file
from edgekit.explain.explaining import explain as _explain
from edgekit.explain.study import ExplainRequest
from edgekit.export.writing import export_float as _export_float
from edgekit.pipeline import Compressed, CompressRequest
from edgekit.quantize.schemes import scheme_from_bits
from edgekit.report.evaluation_files import write_evaluation
from edgekit.report.explanation_files import write_explanation
from edgekit.report.robustness_files import write_robustness
from edgekit.retrieval.search import Found, SearchRequest
from edgekit.retrieval.search import search as _search
from edgekit.runtime.classify import Classifier
from edgekit.runtime.reading import read_picture
from edgekit.train.run import TrainedRun
from edgekit.train.shipped import find_recipe
from edgekit.verify.evaluating import EvaluateRequest
from edgekit.verify.evaluating import evaluate as _evaluate
from edgekit.verify.evaluation import evaluate_file as _evaluate_file
from edgekit.verify.lineup import LineupRequest
from edgekit.verify.robustness import RobustnessRequest, measure_robustness
from edgekit.verify.verification import Verification


def compress(
    model: str | Path,
    *,
    bits: int | str = 8,
    data: str | Path | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    measure_latency: bool = True,
) -> Compressed:
    """Prune and share a model where asked, quantize it, write TFLite and ONNX, verify both against float, and report.

    Args:
        model: Alias ("mobilenet"), catalogue name, run folder, checkpoint, or .onnx file.
        bits: Grid of the weights, 4 to 8, or "mixed" for bits per layer (overrides "quantize.budget_kb=300" or
            "verify.max_drop=0.5" say how small).
        data: Dataset or folder; None for what the weights were trained on.
        out: Run folder; None for runs/<model>-<dataset>-<scheme>.
        overrides: Recipe keys as "section.key=value", e.g. "verify.max_drop=0.5", "prune.sparsity=0.6" or
            "share.conv_bits=5" (docs/recipes.md lists them all).
        measure_latency: Whether latency is measured.

    Returns:
        Run folder, report, and whether every bar was met (a missed bar raises nothing).

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    recipe = _recipe(model, data, bits, overrides)
    command = f"edgekit.compress({str(model)!r}, ...)"
    return pipeline.compress(
        CompressRequest(recipe=recipe, out_dir=out, measure_latency=measure_latency, command=command)
    )


def embed(
    model: str | Path,
    *,
    bits: int = 8,
    data: str | Path | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    measure_latency: bool = True,
) -> Compressed:
    """Export a model up to its penultimate layer: float and quantized, TFLite and ONNX, verified, with precision at k.

    Args:
        model: Alias ("mobilenet"), catalogue name, run folder, checkpoint, or .onnx file.
        bits: Grid of the weights, 4 to 8.
        data: Dataset or folder; None for what the weights were trained on.
        out: Run folder; None for runs/<model>-<dataset>-features-<scheme>.
        overrides: Recipe keys as "section.key=value".
        measure_latency: Whether latency is measured.

    Returns:
        Run folder, report (see its `features`), and whether every bar was met.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    recipe = _recipe(model, data, bits, overrides)
    command = f"edgekit.embed({str(model)!r}, ...)"
    return embedding.embed(
        CompressRequest(recipe=recipe, out_dir=out, measure_latency=measure_latency, command=command)
    )


def _recipe(model: str | Path, data: str | Path | None, bits: int | str, overrides: Sequence[str]) -> Recipe:
    recipe = Recipe(model=ModelSection(name=str(model)), data=DataSection(name="" if data is None else str(data)))
    return override_recipe(recipe, [f"quantize.scheme={scheme_from_bits(bits).id}", *overrides])


def search(folder: Path, like: Path, model: Path, *, top: int = 10, index: Path | None = None) -> Found:
    """Find the pictures in a folder that are most like one.

    On a board, `edgekit.retrieval.search` does the same without what this module imports.

    Args:
        folder: Pictures in it and below it.
        like: The picture that they are compared with.
        model: File that `embed` wrote.
        top: How many of the nearest are wanted.
        index: Where features are kept; None for the user's cache folder.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    return _search(SearchRequest(folder=Path(folder), like=Path(like), model=Path(model), top=top, index_path=index))


def train(
    model: str,
    data: str | Path,
    *,
    out: Path,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
) -> TrainedRun:
    """Train an architecture on a dataset or a folder of class folders.

    Args:
        model: Catalogue name or alias.
        data: Dataset or folder.
        out: Run folder.
        recipe: Recipe to start from; None for the shipped one, or the defaults.
        overrides: Recipe keys as "section.key=value".
        resume: Go on where the run folder stopped.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    recipe = recipe or find_recipe(model, str(data))
    names = [f"model.name={model}", f"data.name={data}"]
    if recipe is not None:
        resolved = load_recipe(recipe, [*names, *overrides])
    else:
        resolved = override_recipe(
            Recipe(model=ModelSection(name=model), data=DataSection(name=str(data))), list(overrides)
        )
    return pipeline.train_run(resolved, out, resume=resume, command=f"edgekit.train({model!r}, {str(data)!r}, ...)")


def verify(run_dir: Path, *, max_drop: float | None = None) -> Verification:
    """Compare the files of a run folder with the float model and with each other.

    Args:
        run_dir: Folder that `compress` or `embed` made.
        max_drop: Most points of top-1 (of an extractor: of precision at 1) that may be lost; None for the recipe's.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    folder = Path(run_dir)
    if embedding.is_extractor(folder):
        return embedding.verify_extractor(folder, max_drop).verification
    return pipeline.verify_run(folder, max_drop)


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    vs: str | Path | None = None,
    out: Path | None = None,
    num_pictures: int | None = None,
    top_k: Sequence[int] = (),
) -> Evaluation:
    """Every metric of a model on a dataset's test pictures, through its runtime; of two, also which is better.

    Args:
        model: .tflite, .onnx, .ekz or .ekb file, run folder, catalogue name, or checkpoint.
        data: Dataset, or a folder of class folders.
        vs: Another model to compare with on the same pictures; None for none.
        out: Folder for evaluate.html and evaluate.json; None to write nothing.
        num_pictures: So many, drawn from all classes, the same every time; None for all.
        top_k: Further k to measure besides 1 and 5.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    request = EvaluateRequest(
        model=str(model),
        data=str(data),
        vs=None if vs is None else str(vs),
        num_pictures=num_pictures,
        top_k=tuple(top_k),
        command=f"edgekit.evaluate({str(model)!r}, {str(data)!r}, ...)",
    )
    found = _evaluate(request).evaluation
    if out is not None:
        write_evaluation(found, Path(out))
    return found


def explain(
    *pictures: str | Path,
    model: str | Path,
    label: str | None = None,
    out: Path | None = None,
    layers: Sequence[str] = (),
) -> Explanation:
    """What an answer hangs on: occlusion of the file, Grad-CAM, gradients and layer responses of its float model.

    Args:
        *pictures: Picture files.
        model: Run folder, .onnx, .tflite, .ekz or .ekb file, catalogue name, or checkpoint.
        label: Class by name or number; None for the answer.
        out: Folder for explain.html and explain.json; None to write nothing.
        layers: Layers to look at; empty for four, evenly spread.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    request = ExplainRequest(
        pictures=tuple(Path(picture) for picture in pictures),
        model=str(model),
        label=label,
        layers=tuple(layers),
        command=f"edgekit.explain(..., model={str(model)!r})",
    )
    found = _explain(request)
    if out is not None:
        write_explanation(found.explanation, found.maps, Path(out))
    return found.explanation


def robustness(
    model: str | Path,
    data: str | Path,
    *,
    vs: str | Path | Sequence[str | Path] = (),
    float_model: str | Path | None = None,
    out: Path | None = None,
    settings: RobustnessSettings | None = None,
) -> Robustness:
    """How a model stands when pictures change, before and after compression: attacks, corruptions, movements.

    Args:
        model: As `evaluate` takes it.
        data: Dataset, or a folder of class folders.
        vs: A model beside it, or several.
        float_model: The model before compression; None for the run's own, or the first of `vs` where that is float.
        out: Folder for robustness.html and robustness.json; None to write nothing.
        settings: How much is measured; None for the defaults.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    beside = (vs,) if isinstance(vs, (str, Path)) else vs
    request = RobustnessRequest(
        lineup=LineupRequest(
            model=str(model),
            vs=tuple(str(other) for other in beside),
            float_model=None if float_model is None else str(float_model),
        ),
        data=str(data),
        settings=settings or RobustnessSettings(),
        command=f"edgekit.robustness({str(model)!r}, {str(data)!r}, ...)",
    )
    found = measure_robustness(request).robustness
    if out is not None:
        write_robustness(found, Path(out))
    return found


def evaluate_file(file: Path, data: str | Path) -> Accuracy:
    """Accuracy of an exported file on a dataset's test pictures, through its runtime."""
    return _evaluate_file(Path(file), str(data))[0]


def export(
    model: str | Path,
    file: Path,
    *,
    width: float | None = None,
    input_size: int | None = None,
    untrained: bool = False,
    squeeze_excite: bool = False,
) -> Artifact:
    """Write a model as a float file, .onnx or .tflite by the extension.

    Args:
        model: Alias, catalogue name, run folder, checkpoint, or .onnx file.
        file: Target.
        width: Width multiplier, for `untrained`; None for the variant's own.
        input_size: Pixels; None for the model's own.
        untrained: Random weights.
        squeeze_excite: A squeeze-and-excitation in every residual block, for `untrained`.
    """
    section = ModelSection(
        name=str(model), width=width, input_size=input_size, untrained=untrained, squeeze_excite=squeeze_excite
    )
    return _export_float(section, Path(file))


def classify(file: Path, *pictures: Path, top_k: int = 5) -> tuple[Prediction, ...]:
    """Answers of a model file for picture files."""
    classifier = Classifier.open(Path(file))
    return tuple(classifier.classify(read_picture(Path(picture)), top_k=top_k) for picture in pictures)


def pack(file: Path, out: Path | None = None) -> PackedFile:
    """Pack a model file without loss; `out` is by default the same name with .ekz.

    Raises:
        EdgekitError: With the message and the hint that the command line would print.
    """
    return pack_file(Path(file), out)


def unpack(file: Path, out: Path | None = None) -> PackedFile:
    """Restore a packed file, byte for byte; `out` is by default the same name as .tflite or .onnx.

    Raises:
        IntegrityError: Anything is not as it was packed; the message says where.
        EdgekitError: With the message and the hint that the command line would print.
    """
    return unpack_file(Path(file), out)
