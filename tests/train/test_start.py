"""Starting from trained weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from edgekit.core.errors import CheckpointError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, save_checkpoint
from edgekit.models.folded import fold_batch_norms
from edgekit.models.zoo import build_model, with_sizes
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.module import cut_module
from edgekit.train.start import as_initialized, start_from

OPTIONS = BuildOptions(variant="mobilenet_v1", width=0.25, num_classes=3, in_channels=1, input_size=28)
SPEC = PreprocessSpec(input_size=(28, 28), num_channels=1, mean=(0.5,), std=(0.5,))


@pytest.fixture
def checkpoint_path(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "checkpoint.safetensors"
    card = CheckpointCard(options=OPTIONS, labels=("a", "b", "c"), preprocess=SPEC, dataset="toy", num_epochs=1)
    save_checkpoint(path, build_model(OPTIONS).state_dict(), card)
    return path


def test_start_from_copies_every_tensor_when_classes_are_the_same(checkpoint_path: Path) -> None:
    torch.manual_seed(2)
    module = build_model(OPTIONS)

    start = start_from(module, OPTIONS, str(checkpoint_path))

    torch.manual_seed(1)
    expected = build_model(OPTIONS).state_dict()
    assert start.random == ()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())


def test_start_from_leaves_the_classifier_random_when_classes_are_others(checkpoint_path: Path) -> None:
    options = with_sizes(OPTIONS, num_classes=5)
    module = build_model(options)
    before = module.state_dict()["classifier.weight"].clone()

    start = start_from(module, options, str(checkpoint_path))

    torch.manual_seed(1)
    expected = build_model(OPTIONS).state_dict()
    after = module.state_dict()
    assert start.random == ("classifier.bias", "classifier.weight")
    assert torch.equal(after["classifier.weight"], before)
    assert all(torch.equal(after[name], tensor) for name, tensor in expected.items() if "classifier" not in name)


@pytest.mark.parametrize("sizes", [{"width": 0.5}, {"in_channels": 3}])
def test_start_from_names_the_tensor_that_does_not_fit(checkpoint_path: Path, sizes: dict[str, float]) -> None:
    options = with_sizes(OPTIONS, **sizes)

    with pytest.raises(CheckpointError, match=r"features\.0\.0\.weight does not fit"):
        start_from(build_model(options), options, str(checkpoint_path))


def test_start_from_pruned_weights_has_their_widths(tmp_path: Path) -> None:
    torch.manual_seed(1)
    pruned = build_model(OPTIONS)
    plan = plan_channels(trace(pruned, (1, 28, 28), name="m"), ChannelPruning(pruning_ratio=0.5))
    widths = cut_module(pruned, plan)
    card = CheckpointCard(
        options=OPTIONS, labels=("a", "b", "c"), preprocess=SPEC, dataset="toy", num_epochs=1, widths=widths
    )
    save_checkpoint(tmp_path / "checkpoint.safetensors", pruned.state_dict(), card)
    module = build_model(with_sizes(OPTIONS, num_classes=5))

    start = start_from(module, with_sizes(OPTIONS, num_classes=5), str(tmp_path / "checkpoint.safetensors"))

    assert [width.layer for width in start.widths] == [width.layer for width in widths]
    assert module.eval()(torch.zeros(1, 1, 28, 28)).shape == (1, 5)
    expected = pruned.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in module.state_dict().items() if "classifier" not in name)


def test_start_from_folded_weights_is_folded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    folded = build_model(OPTIONS)
    fold_batch_norms(folded)
    card = CheckpointCard(
        options=OPTIONS, labels=("a", "b", "c"), preprocess=SPEC, dataset="toy", num_epochs=1, folded=True
    )
    save_checkpoint(tmp_path / "checkpoint.safetensors", folded.state_dict(), card)
    module = build_model(OPTIONS)

    start = start_from(module, OPTIONS, str(tmp_path / "checkpoint.safetensors"))

    assert start.folded
    expected = folded.state_dict()
    assert module.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())


def test_network_takes_the_conventions_of_its_first_weights(tmp_path: Path) -> None:
    foreign = msgspec.structs.replace(OPTIONS, padding="same", activation="relu6", batch_norm=False)
    card = CheckpointCard(options=foreign, labels=("a", "b", "c"), preprocess=SPEC, dataset="toy", num_epochs=1)
    save_checkpoint(tmp_path / "checkpoint.safetensors", build_model(foreign).state_dict(), card)

    options = as_initialized(OPTIONS, str(tmp_path / "checkpoint.safetensors"))

    assert options == foreign
    start_from(build_model(options), options, str(tmp_path / "checkpoint.safetensors"))


def test_conventions_of_another_architecture_do_not_count(checkpoint_path: Path) -> None:
    other = BuildOptions(variant="squeezenet1_1")

    assert as_initialized(other, str(checkpoint_path)) == other
