"""Weights on disk: what was saved comes back, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

from edgekit.core.errors import CheckpointError, IntegrityError, OutputError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, load_checkpoint, load_into, read_card, save_checkpoint
from edgekit.models.zoo import build_model
from edgekit.train.device import place

OPTIONS = BuildOptions(variant="mobilenet_v1", width=0.125, num_classes=3, in_channels=1, input_size=28)
CARD = CheckpointCard(
    options=OPTIONS,
    labels=("a", "b", "c"),
    preprocess=PreprocessSpec(input_size=(28, 28), num_channels=1, mean=(0.5,), std=(0.25,)),
    dataset="toy",
    num_epochs=2,
    test_top1=0.5,
    num_test=10,
    command="edgekit train toy",
)


def random_state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return build_model(OPTIONS).state_dict()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, random_state(), CARD)
    return path


def test_checkpoint_gives_back_weights_and_card(checkpoint: Path) -> None:
    module, card = load_checkpoint(checkpoint)

    assert not module.training
    assert msgspec.structs.replace(card, sha256="") == CARD
    loaded, saved = module.state_dict(), random_state()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


def test_card_from_before_the_conventions_means_todays_network(checkpoint: Path) -> None:
    card_path = checkpoint.with_suffix(".json")
    card = msgspec.json.decode(card_path.read_bytes())
    for convention in ("padding", "activation", "batch_norm"):
        del card["options"][convention]
    card_path.write_bytes(msgspec.json.encode(card))

    module, read = load_checkpoint(checkpoint)

    assert read.options == OPTIONS
    assert module.state_dict().keys() == random_state().keys()


def test_channels_last_weights_are_saved_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = place(build_model(OPTIONS), torch.device("cpu"))
    save_checkpoint(tmp_path / "c.safetensors", module.state_dict(), CARD)

    loaded = load_checkpoint(tmp_path / "c.safetensors")[0].state_dict()

    assert all(torch.equal(loaded[name], tensor) for name, tensor in random_state().items())


def test_half_checkpoint_is_half_the_size_and_close(tmp_path: Path, checkpoint: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, random_state(), CARD, half=True)

    loaded = load_checkpoint(half)[0].state_dict()

    assert half.stat().st_size < 0.6 * checkpoint.stat().st_size
    for name, tensor in random_state().items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=2**-10, atol=1e-7)


def test_half_checkpoint_is_refused_when_a_value_is_beyond_its_range(tmp_path: Path) -> None:
    state = random_state()
    state["classifier.bias"] = torch.tensor([0.0, 1e6, 0.0])

    with pytest.raises(CheckpointError, match=r"classifier\.bias reaches 1e\+06"):
        save_checkpoint(tmp_path / "half.safetensors", state, CARD, half=True)

    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_name_the_first_misfit(checkpoint: Path) -> None:
    card = msgspec.structs.replace(read_card(checkpoint), options=msgspec.structs.replace(OPTIONS, width=0.25))
    checkpoint.with_suffix(".json").write_bytes(msgspec.json.encode(card))

    with pytest.raises(CheckpointError, match=r"mobilenet_v1_w0\.25.*expected \[.*\], got \[") as caught:
        load_checkpoint(checkpoint)

    assert "another architecture" in str(caught.value.hint)


@pytest.mark.parametrize(("change", "message"), [("drop", "is missing"), ("add", "does not belong")])
def test_tensor_too_few_or_too_many_is_named(change: str, message: str) -> None:
    state = random_state()
    if change == "drop":
        del state["classifier.bias"]
    else:
        state["classifier.extra"] = torch.zeros(1)

    with pytest.raises(CheckpointError, match=rf"classifier\.(bias|extra) {message}"):
        load_into(build_model(OPTIONS), state, "test")


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_weights_are_refused(checkpoint: Path, damage: str) -> None:
    content = bytearray(checkpoint.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    checkpoint.write_bytes(content if damage == "flip" else content[: len(content) // 2 if damage == "truncate" else 0])

    with pytest.raises(IntegrityError, match="does not match the hash"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file of pickles", b"\xff" * 64])
def test_foreign_file_is_no_checkpoint_when_the_card_knows_no_hash(checkpoint: Path, content: bytes) -> None:
    checkpoint.with_suffix(".json").write_bytes(msgspec.json.encode(CARD))
    checkpoint.write_bytes(content)

    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"options": 1}', b"\xff\xfe"])
def test_damaged_card_is_refused(checkpoint: Path, content: bytes) -> None:
    checkpoint.with_suffix(".json").write_bytes(content)

    with pytest.raises(CheckpointError, match="no checkpoint card"):
        load_checkpoint(checkpoint)


def test_missing_files_are_named(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="no card"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    checkpoint.unlink()
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        load_checkpoint(checkpoint)


def test_unwritable_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")

    with pytest.raises(OutputError):
        save_checkpoint(blocker / "c.safetensors", random_state(), CARD)
