"""Weights on disk: safetensors plus a JSON card, never pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, IntegrityError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.storage import write_bytes
from edgekit.models.architecture import BuildOptions
from edgekit.models.folded import fold_structure
from edgekit.models.widths import LayerWidth, resize_layers
from edgekit.models.zoo import build_model, model_name

CHECKPOINT_VERSION = 1


class CheckpointCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the weights are, and where they come from.

    Args:
        options: The network they fit.
        labels: Class names in output order.
        preprocess: Picture to input.
        dataset: What they were trained on.
        num_epochs: Passes over it.
        test_top1: Accuracy on the dataset's test pictures, 0..1; None if it was not measured.
        num_test: Number of those pictures.
        command: The command that made them.
        widths: Layers whose channels were pruned, and their sizes; empty for the architecture's own.
        folded: BatchNorm is folded into the convolutions: the network has biases instead of norms.
        sha256: Of the safetensors file; filled in when saving.
        version: Format version.
    """

    options: BuildOptions
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    dataset: str
    num_epochs: int
    test_top1: float | None = None
    num_test: int = 0
    command: str = ""
    widths: tuple[LayerWidth, ...] = ()
    folded: bool = False
    sha256: str = ""
    version: int = CHECKPOINT_VERSION


def save_checkpoint(path: Path, state: dict[str, Tensor], card: CheckpointCard, *, half: bool = False) -> None:
    """Write `path` (.safetensors) and its card beside it (.json), each atomically.

    Args:
        path: Ends in .safetensors.
        state: State dict of the network.
        card: `sha256` in it is replaced.
        half: Store floating-point tensors as float16, half the size (they are loaded as float32).

    Raises:
        CheckpointError: With `half`, a value is beyond float16's range.
        OutputError: It cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if half:
        tensors = {name: _to_half(name, t) if t.is_floating_point() else t for name, t in tensors.items()}
    content = safetensors.torch.save(tensors)
    write_bytes(path, content)
    card = msgspec.structs.replace(card, sha256=hashlib.sha256(content).hexdigest())
    write_bytes(path.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(card)) + b"\n")


def read_card(path: Path) -> CheckpointCard:
    """Read the card of a checkpoint.

    Raises:
        CheckpointError: No card, or one that does not fit the schema.
    """
    card_path = path.with_suffix(".json")
    try:
        return msgspec.json.decode(card_path.read_bytes(), type=CheckpointCard)
    except FileNotFoundError as error:
        raise CheckpointError(f"no card {card_path}", hint="a checkpoint is NAME.safetensors and NAME.json") from error
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{card_path} is no checkpoint card: {error}") from error


def load_checkpoint(path: Path) -> tuple[nn.Module, CheckpointCard]:
    """Build the network of a checkpoint and load its weights; the module is in eval mode.

    Raises:
        CheckpointError: Missing or damaged files, or weights of another architecture (the first misfit is named).
        IntegrityError: The weights are not those that the card was written for (damaged, truncated, or exchanged).
    """
    card = read_card(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    if card.sha256 and hashlib.sha256(content).hexdigest() != card.sha256:
        raise IntegrityError(
            f"{path} ({len(content)} bytes) does not match the hash in its card", hint="copy both files again, together"
        )
    module = build_model(card.options)
    resize_layers(module, card.widths)
    if card.folded:
        fold_structure(module)
    load_into(module, decode_state(content, str(path)), f"{path} ({model_name(card.options)})")
    return module.eval(), card


def decode_state(content: bytes, source: str) -> dict[str, Tensor]:
    """Decode the tensors of a safetensors file, float16 widened to float32.

    Raises:
        CheckpointError: No safetensors file; `source` names it.
    """
    try:
        state = safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{source} is no safetensors file: {error}") from error
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}


def load_into(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Copy a state dict into a module, strictly.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape; the first is named.
    """
    expected = module.state_dict()
    for name in [*expected, *state]:
        if name not in state:
            raise CheckpointError(f"{source}: tensor {name} is missing", hint=_OTHER_ARCHITECTURE)
        if name not in expected:
            raise CheckpointError(
                f"{source}: tensor {name} does not belong to this architecture", hint=_OTHER_ARCHITECTURE
            )
        if expected[name].shape != state[name].shape:
            raise CheckpointError(
                f"{source}: tensor {name}: expected {list(expected[name].shape)}, got {list(state[name].shape)}",
                hint=_OTHER_ARCHITECTURE,
            )
    module.load_state_dict(state)


def _to_half(name: str, tensor: Tensor) -> Tensor:
    half = tensor.half()
    if not torch.isfinite(half).all() and torch.isfinite(tensor).all():
        largest = float(tensor.abs().max())
        raise CheckpointError(f"tensor {name} reaches {largest:.3g}, float16 only 65504", hint="save it in float32")
    return half


_OTHER_ARCHITECTURE = "is it a checkpoint of another architecture, width or number of classes?"
