"""From a bundle to a model that serves: checked, unpacked, mapped, warmed up, and asked what it must know."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.agent.facts import read_facts
from edgekit.agent.unpacked import unpacked_model
from edgekit.bundle.check import plain_labels
from edgekit.bundle.compatibility import DeviceFacts, incompatibilities
from edgekit.bundle.golden import check_answers
from edgekit.bundle.manifest import MODEL, Budgets, Manifest
from edgekit.bundle.reading import Bundle, is_bundle, open_bundle
from edgekit.core.device_status import ModelStatus
from edgekit.core.errors import IntegrityError, UsageError
from edgekit.runtime.classify import Classifier
from edgekit.runtime.interpreter import Interpreter, load_interpreter, preload_runtime
from edgekit.runtime.predict import predict_logits

_logger = logging.getLogger(__name__)

STATM_PATH = Path("/proc/self/statm")

MakeBundle = Callable[[Path, Path], Path]
"""Makes a bundle of a run folder: (run folder, folder to put it in) -> the bundle."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the model runs.

    Args:
        num_threads: Of the runtime.
        spin: Let the runtime's threads wait by spinning. Worth it only when inference never pauses.
        affinity: Processors that the calling thread, and every thread that it starts from then on, may use; empty for
            all.
        exact: As in `load_interpreter`.
        any_board: Take a bundle that is for other boards, or wants more than is there, with a warning.
    """

    num_threads: int = 1
    spin: bool = False
    affinity: tuple[int, ...] = ()
    exact: bool = True
    any_board: bool = False


class ServingModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that has answered its golden pictures right.

    Args:
        classifier: Ready to classify; one thread at a time.
        status: What is told about it outside.
        manifest: Of its bundle.
        digest: SHA-256 of the manifest, which names the bundle's content.
    """

    classifier: Classifier
    status: ModelStatus
    manifest: Manifest
    digest: str

    @property
    def baseline(self) -> tuple[float, ...] | None:
        """Share of each class on test pictures; None when it is not known."""
        return self.manifest.baseline

    @property
    def budgets(self) -> Budgets:
        """What it may cost on this board."""
        return self.manifest.budgets


def load_model(
    path: Path,
    settings: ModelSettings,
    work_dir: Path,
    *,
    make_bundle: MakeBundle | None = None,
    facts: DeviceFacts | None = None,
    beat: Callable[[], None] = lambda: None,
) -> ServingModel:
    """Load what a path holds; nothing is served before it has proved itself.

    Args:
        path: `.ekb` file, bundle folder, or, where there is `make_bundle`, a run folder.
        settings: How it runs.
        work_dir: Where the unpacked model (and a bundle made of a run) goes; made when it does not exist.
        make_bundle: Makes a bundle of a run folder; None on a board.
        facts: About this machine; None to look.
        beat: Called now and then: loading takes seconds on a small board.

    Raises:
        UsageError: No bundle there, one for another board, or processors that are not there.
        IntegrityError: Anything in it is not as it should be.
        BarNotMetError: A golden picture was answered wrong; names it, expected and got.
        GraphError, MissingDependencyError, OutputError: As the runtime and the disk have it.
    """
    pin(settings.affinity)
    bundle, is_released = _open(path, work_dir, make_bundle)
    _check_board(bundle, facts or read_facts(work_dir), settings)
    manifest = bundle.manifest
    preload_runtime(Path(f"model.{manifest.model.format}"))  # its libraries are no cost of this model
    before_mib = resident_mib()
    started = time.perf_counter()
    with unpacked_model(bundle, work_dir / "models", beat) as file:
        interpreter = load_interpreter(file, num_threads=settings.num_threads, exact=settings.exact, spin=settings.spin)
        beat()
    classifier = _classifier(bundle, interpreter)
    load_ms = (time.perf_counter() - started) * 1e3
    first_ms = _answer_golden(bundle, classifier, beat)
    return ServingModel(
        classifier=classifier,
        status=ModelStatus(
            name=manifest.model.name,
            scheme=manifest.model.scheme,
            sha256=manifest.model.sha256,
            release=manifest.release if is_released else None,
            packed_bytes=manifest.file(MODEL).size_bytes,
            file_bytes=manifest.model.size_bytes,
            resident_mib=max(0.0, resident_mib() - before_mib),
            load_ms=load_ms,
            first_inference_ms=first_ms,
            num_golden=len(manifest.golden.top1),
            runtime=interpreter.name,
            num_threads=settings.num_threads,
            num_classes=classifier.num_classes,
        ),
        manifest=manifest,
        digest=bundle.digest,
    )


def pin(processors: tuple[int, ...]) -> None:
    """Let the calling thread, and every thread that it starts, run on these processors only; empty changes nothing.

    Raises:
        UsageError: A processor that is not there, or not ours.
    """
    if not processors:
        return
    allowed = os.sched_getaffinity(0)
    missing = sorted(set(processors) - allowed)
    if missing:
        raise UsageError(f"affinity {list(processors)} names processors {missing}, there are {sorted(allowed)}")
    os.sched_setaffinity(0, processors)


def resident_mib(path: Path = STATM_PATH) -> float:
    """Resident memory of this process; 0 where it cannot be told."""
    try:
        return int(path.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        return 0.0


def _open(path: Path, work_dir: Path, make_bundle: MakeBundle | None) -> tuple[Bundle, bool]:
    """The bundle, and whether it was released (not made on the spot)."""
    if path.is_dir() and not is_bundle(path):
        if make_bundle is None:
            raise UsageError(f"{path} holds no manifest.json", hint="name an .ekb file or a bundle folder")
        bundle = open_bundle(make_bundle(path, work_dir))
        return bundle, False
    bundle = open_bundle(path)
    return bundle, bundle.manifest.release > 0


def _check_board(bundle: Bundle, facts: DeviceFacts, settings: ModelSettings) -> None:
    reasons = incompatibilities(bundle.manifest, facts)
    if reasons and not settings.any_board:
        raise UsageError(
            f"{bundle.path} does not belong here: {'; '.join(reasons)}",
            hint="make one for this board (edgekit bundle RUN --for BOARD), or free what it needs",
        )
    for reason in reasons:
        _logger.warning("%s: %s", bundle.path, reason)


def _classifier(bundle: Bundle, interpreter: Interpreter) -> Classifier:
    """Put the model and its card together, and see that the manifest speaks of the same."""
    model, card = bundle.manifest.model, interpreter.card
    if card is None:
        raise IntegrityError(f"{bundle.path}: the model has no edgekit card", hint="edgekit compress writes one")
    labels = plain_labels(card.labels, model.num_classes)
    found = (labels, (*card.preprocess.input_size, card.preprocess.num_channels), card.model)
    expected = (bundle.labels, (*model.input_size, model.num_channels), model.name)
    for what, one, other in zip(("labels", "input", "name"), found, expected, strict=True):
        if one != other:
            raise IntegrityError(f"{bundle.path}: the bundle says {what} {_cut(other)}, the model's card {_cut(one)}")
    if interpreter.input.image_shape != found[1]:
        raise IntegrityError(
            f"{bundle.path}: the bundle says input {list(expected[1])}, the model takes "
            f"{list(interpreter.input.image_shape)} [height, width, channels]"
        )
    return Classifier(interpreter, card.preprocess, bundle.labels)


def _answer_golden(bundle: Bundle, classifier: Classifier, beat: Callable[[], None]) -> float:
    """Warm up with the golden pictures, and check every answer; the time of the first inference, ms."""
    first_ms = 0.0
    for index, picture in enumerate(bundle.golden.pictures):
        started = time.perf_counter()
        answer = _logits(classifier, picture)
        if index == 0:
            first_ms = (time.perf_counter() - started) * 1e3
        check_answers(bundle.golden, answer, first=index, name=str(bundle.path))
        beat()
    return first_ms


def _logits(classifier: Classifier, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return predict_logits(classifier.interpreter, picture[np.newaxis], classifier.spec)


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
