"""A run folder into a bundle: model packed, golden pictures chosen and judged, everything hashed."""

from __future__ import annotations

import hashlib
import io
import math
import re
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit import __version__
from edgekit.bundle.archive import EXTENSION
from edgekit.bundle.check import check_manifest, plain_labels
from edgekit.bundle.manifest import (
    GOLDEN,
    LABELS,
    LOGITS,
    MANIFEST,
    MODEL,
    Budgets,
    Compatible,
    GoldenEntry,
    Manifest,
    ModelEntry,
    Needs,
    RuntimeNeed,
    describe_file,
    encode_manifest,
)
from edgekit.bundle.reading import Bundle, open_bundle, write_bundle
from edgekit.core.artifact import ModelCard
from edgekit.core.board import HOST_BOARD, load_board
from edgekit.core.errors import BarNotMetError, DataError, IntegrityError, UsageError
from edgekit.core.layout import MODEL_EKZ, MODEL_ONNX, MODEL_TFLITE
from edgekit.core.progress import Progress, Silent
from edgekit.deploy.candidates import Candidates, find_candidates, generate_candidates
from edgekit.deploy.golden_pictures import Chosen, Judged, choose, num_that_fit
from edgekit.encode.container import read_front
from edgekit.encode.files import naming, unpack_file
from edgekit.encode.packing import pack
from edgekit.runtime.card import require_classifier
from edgekit.runtime.interpreter import Interpreter, load_interpreter
from edgekit.runtime.predict import predict_logits

NUM_GOLDEN = 8
NUM_CANDIDATES = 128
NUM_SAMPLE = 512
"""Test pictures of which the class histogram is made; the first of them are the candidates."""

_PICTURES_PER_CLASS = 5
_BATCH = 64
_MAX_NAME = 100
_MIB = 1024 * 1024
_BASE_RAM_MIB = 128
"""Python, numpy, OpenCV, runtime and camera process."""
_RAM_PER_MODEL_BYTE = 4
"""Mapped file, the runtime's own order of the weights, activations; unpacking takes less."""

PYTHON_AT_LEAST = (3, 10)
RUNTIMES: dict[str, tuple[RuntimeNeed, ...]] = {
    "tflite": (
        RuntimeNeed(name="litert", at_least="2.0"),
        RuntimeNeed(name="tflite_runtime", at_least="2.14"),
        RuntimeNeed(name="tensorflow", at_least="2.14"),
    ),
    "onnx": (RuntimeNeed(name="onnxruntime", at_least="1.23"),),
}
DYNAMIC_RUNTIMES = (RuntimeNeed(name="litert", at_least="2.0"),)
"""For TFLite files of a dynamic scheme: FULLY_CONNECTED of version 12, which has a scale per channel beside float
activations, is younger than the interpreters of 2.14."""


class BundleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to bundle, and for whom.

    Args:
        run_dir: Folder that `edgekit compress` made.
        boards: Ids of the boards that may install it.
        release: Rises with every release; 0 for one that is not released.
        name: Of what is released; None for model and dataset of the run.
        created_unix_s: Stated in the manifest; None to state nothing.
        budgets: What it may cost on the board.
        num_golden: Golden pictures wanted; large ones are fewer.
        num_sample: Test pictures looked at.
    """

    run_dir: Path
    boards: tuple[str, ...]
    release: int = 1
    name: str | None = None
    created_unix_s: int | None = None
    budgets: Budgets = Budgets()
    num_golden: int = NUM_GOLDEN
    num_sample: int = NUM_SAMPLE


def make_bundle(request: BundleRequest, out: Path, progress: Progress | None = None) -> Bundle:
    """Make a bundle of a run; the same run and request make the same bytes.

    Args:
        request: What, and for whom.
        out: `.ekb` file, or a folder.
        progress: Shows how far it is.

    Returns:
        The bundle, read again from where it was written.

    Raises:
        UsageError: No run folder, or files are missing in it; a name, release or budget that boards refuse.
        UnknownNameError: No such board.
        IntegrityError: The model has no card, or a file of the run is damaged.
        BarNotMetError: The run's two files agree clearly on no picture.
        OutputError: The target cannot be written.
    """
    for board in request.boards:
        load_board(board)
    if request.release < 0 or not request.boards:
        raise UsageError(f"release {request.release} for {len(request.boards)} boards, expected 0 or more, for one")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        contents = _contents(request, Path(scratch), progress or Silent())
    write_bundle(out, contents)
    return open_bundle(out)


def bundle_run(run_dir: Path, folder: Path, board: str = HOST_BOARD) -> Path:
    """Make a bundle that is not released, for this very machine, or find the one that was made before.

    Args:
        run_dir: Folder that `edgekit compress` made.
        folder: Where it goes.
        board: This machine's id.

    Returns:
        The `.ekb` file.

    Raises:
        EdgekitError: As `make_bundle`.
    """
    digest = hashlib.sha256(_model_file(run_dir).read_bytes()).hexdigest()
    path = folder / f"run-{board}-{digest[:16]}{EXTENSION}"
    if path.is_file():
        try:
            return open_bundle(path).path
        except (IntegrityError, DataError):
            path.unlink()
    make_bundle(BundleRequest(run_dir=run_dir, boards=(board,), release=0), path)
    return path


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    """The shipped file: its bytes, packed and not, and its card."""

    path: Path
    content: bytes
    packed: bytes
    card: ModelCard
    interpreter: Interpreter


def _contents(request: BundleRequest, scratch: Path, progress: Progress) -> dict[str, bytes]:
    """Every file of the bundle."""
    model = _load(request.run_dir, scratch)
    judge = _judge(request.run_dir, model.card)
    candidates = find_candidates(request.run_dir, model.card.preprocess, request.num_sample)
    answers = _answer(model.interpreter, candidates.pictures, model.card, progress)
    golden, judged, chosen = _choose(request, (model, judge), candidates, answers, progress)
    logits = judged.judge[list(chosen.indices)]
    labels = plain_labels(model.card.labels, logits.shape[1])
    contents = {
        MODEL: model.packed,
        LABELS: "".join(f"{label}\n" for label in labels).encode(),
        GOLDEN: judged.pictures[list(chosen.indices)].tobytes(),
        LOGITS: logits.astype("<f4").tobytes(),
    }
    manifest = Manifest(
        name=request.name or _default_name(model.card, candidates),
        release=request.release,
        created_unix_s=request.created_unix_s,
        made_by=f"edgekit {__version__}",
        compatible=_compatible(request.boards, "" if judge.card is None else judge.card.scheme),
        needs=_needs(model, sum(map(len, contents.values()))),
        budgets=request.budgets,
        files=tuple(describe_file(name, content) for name, content in sorted(contents.items())),
        model=_describe_model(model, "float" if judge.card is None else judge.card.scheme),
        golden=GoldenEntry(
            origin="generated" if golden.dataset is None else "test_pictures",
            source=golden.source(chosen.indices),
            judge=f"{judge.name} (exact), {MODEL_ONNX}",
            top1=tuple(int(index) for index in logits.argmax(axis=1)),
            tolerance=chosen.tolerance,
        ),
        baseline=None if candidates.dataset is None else _histogram(answers),
    )
    try:
        check_manifest(manifest)
    except IntegrityError as error:
        raise UsageError(error.message, hint="boards would refuse this bundle") from error
    return {MANIFEST: encode_manifest(manifest), **contents}


def _choose(
    request: BundleRequest,
    models: tuple[_Model, Interpreter],
    candidates: Candidates,
    answers: npt.NDArray[np.float32],
    progress: Progress,
) -> tuple[Candidates, Judged, Chosen]:
    """Golden pictures among the candidates; among generated ones when the test pictures have no clear answers."""
    model, judge = models
    wanted = num_that_fit(int(np.prod(candidates.pictures.shape[1:])), request.num_golden)
    while True:
        pictures = candidates.pictures[:NUM_CANDIDATES]
        judged = Judged(
            pictures=pictures,
            judge=_answer(judge, pictures, model.card, progress),
            model=answers[: len(pictures)],
            step=_step(model, judge, answers),
        )
        try:
            return candidates, judged, choose(judged, wanted)
        except BarNotMetError:
            if candidates.dataset is None:
                raise
        candidates = generate_candidates(model.card.preprocess, NUM_CANDIDATES)
        answers = _answer(model.interpreter, candidates.pictures, model.card, progress)


def _step(model: _Model, judge: Interpreter, answers: npt.NDArray[np.float32]) -> float:
    """Distance of neighbouring answers; where a quantized file hides it behind a float output, of 256 of them."""
    is_quantized = judge.card is not None and judge.card.scheme != "float"
    return model.interpreter.output.scale or (float(np.ptp(answers)) / 255 if is_quantized else 0.0)


def _answer(
    interpreter: Interpreter, pictures: npt.NDArray[np.uint8], card: ModelCard, progress: Progress
) -> npt.NDArray[np.float32]:
    """Logits of every picture, float32 [n, classes]."""
    progress.begin(f"ask {interpreter.file_path.name}", len(pictures))
    parts: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(pictures), _BATCH):
        parts.append(predict_logits(interpreter, pictures[start : start + _BATCH], card.preprocess))
        progress.advance(len(parts[-1]))
    progress.end()
    return np.concatenate(parts)


def _model_file(run_dir: Path) -> Path:
    """The file that says which model a run has."""
    for name in (MODEL_TFLITE, MODEL_EKZ):
        if (run_dir / name).is_file():
            return run_dir / name
    raise UsageError(f"{run_dir} is no run folder: {MODEL_TFLITE} missing", hint="edgekit compress makes one")


def _load(run_dir: Path, scratch: Path) -> _Model:
    """The run's TFLite file, packed: by the run itself where its `model.ekz` is of this very file."""
    path, packed_path = _model_file(run_dir), run_dir / MODEL_EKZ
    if path == packed_path:
        path = unpack_file(packed_path, scratch / MODEL_TFLITE).path
    content = path.read_bytes()
    packed = packed_path.read_bytes() if packed_path.is_file() else b""
    if not packed or _packed_digest(packed, packed_path) != hashlib.sha256(content).digest():
        packed = pack(content).content
    interpreter = load_interpreter(path)
    if interpreter.card is None:
        raise IntegrityError(f"{path} has no edgekit card", hint="edgekit compress writes one into its files")
    require_classifier(interpreter.card, path)
    return _Model(path=path, content=content, packed=packed, card=interpreter.card, interpreter=interpreter)


def _packed_digest(packed: bytes, path: Path) -> bytes:
    """SHA-256 of what was packed."""
    with naming(path):
        return read_front(io.BytesIO(packed), len(packed)).sha256


def _judge(run_dir: Path, card: ModelCard) -> Interpreter:
    """The run's ONNX file, whose runtime shares no kernel with the one that is judged."""
    path = run_dir / MODEL_ONNX
    if not path.is_file():
        raise UsageError(f"{run_dir} holds no {MODEL_ONNX}, which says what is right", hint="edgekit compress makes it")
    judge = load_interpreter(path, exact=True)
    # The scheme is compared no more than it is believed: files of older runs say "float" of their TFLite file.
    if judge.card is None or msgspec.structs.replace(judge.card, scheme=card.scheme) != card:
        raise IntegrityError(f"{path} and {MODEL_TFLITE} are not of the same model", hint="make the run again")
    return judge


def _describe_model(model: _Model, scheme: str) -> ModelEntry:
    spec = model.card.preprocess
    return ModelEntry(
        format="tflite",
        size_bytes=len(model.content),
        sha256=hashlib.sha256(model.content).hexdigest(),
        name=model.card.model,
        scheme=scheme,
        input_size=spec.input_size,
        num_channels=spec.num_channels,
        num_classes=int(np.prod(model.interpreter.output.shape[1:])),
    )


def _default_name(card: ModelCard, candidates: Candidates) -> str:
    """Model and dataset, in the letters that a bundle's name may have."""
    words = card.model if candidates.dataset is None else f"{card.model}-{candidates.dataset}"
    return re.sub(r"[^a-z0-9._-]+", "_", words.lower()).strip("._-")[:_MAX_NAME] or "model"


def _compatible(boards: tuple[str, ...], scheme: str) -> Compatible:
    architectures = {load_board(board).facts.arch for board in boards}
    return Compatible(
        boards=tuple(sorted(set(boards))),
        # one board that may be any (the host) makes it any
        architectures=() if None in architectures else tuple(sorted(map(str, architectures))),
        python_at_least=PYTHON_AT_LEAST,
        runtimes=DYNAMIC_RUNTIMES if scheme.startswith("dynamic_") else RUNTIMES["tflite"],
    )


def _needs(model: _Model, bundle_bytes: int) -> Needs:
    """A rule, not a measurement, so that bundles reproduce; docs/agent-bundle.md says what it was taken from."""
    model_bytes = len(model.content)
    return Needs(
        ram_mib=_BASE_RAM_MIB + math.ceil(_RAM_PER_MODEL_BYTE * model_bytes / _MIB),
        disk_mib=math.ceil((bundle_bytes + model_bytes) / _MIB) + 1,
    )


def _histogram(answers: npt.NDArray[np.float32]) -> tuple[float, ...] | None:
    """Share of each class among the answers; None where there are too few to mean anything."""
    num, num_classes = answers.shape
    if num < _PICTURES_PER_CLASS * num_classes:
        return None
    counts = np.bincount(answers.argmax(axis=1), minlength=num_classes)
    return tuple(int(count) / num for count in counts)
