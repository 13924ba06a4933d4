"""Quantizing as a recipe asks, and recipes that do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgekit.core.errors import EdgekitError, RecipeError, UsageError
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QatSection, QuantizeSection, ShareSection
from edgekit.lowbit import quantizing
from edgekit.lowbit.qat import QatRequest, QatResult
from edgekit.lowbit.quantizing import check_recipe, quantize
from lowbit_jobs import Ear, hub_of, job_of
from toy_pictures import write_folder

FEW = {"num_calibration": 32}
LAYERS = ("conv_0", "conv_2", "conv_4", "conv_6", "gemm_10")


def section_of(**options: Any) -> QuantizeSection:
    return QuantizeSection(**{**FEW, **options})


def bits_of(model: QuantizedGraph) -> dict[str, int]:
    return {
        node.name: model.constants[node.inputs[1]].params.num_bits
        for node in model.graph.nodes
        if node.op in ("Conv", "Gemm")
    }


def test_eight_bits_need_no_section(tmp_path: Path) -> None:
    made = quantize(job_of(tmp_path, section_of()), Ear().watch)

    assert made.section is None
    assert set(bits_of(made.model).values()) == {8}


@pytest.mark.parametrize("bits", [6, 4])
def test_few_bits_spare_what_is_sensitive_and_say_so(tmp_path: Path, bits: int) -> None:
    ear = Ear()

    made = quantize(job_of(tmp_path, section_of(scheme=f"static_wi{bits}_ai8")), ear.watch)

    found = bits_of(made.model)
    assert tuple(found) == LAYERS
    assert found["conv_0"] == found["conv_2"] == 8
    assert found["conv_4"] == found["conv_6"] == bits
    assert made.section is not None
    assert {row.layer: row.grid_bits for row in made.section.layers} == found
    reasons = {row.layer: row.wide_because for row in made.section.layers}
    assert reasons["conv_0"] == "first layer"
    assert reasons["conv_2"] == "depthwise"
    assert reasons["conv_4"] is None
    assert any("layers keep 8 bits" in line for line in ear.lines)
    assert (made.section.asked, made.section.engine, made.section.compute) == (str(bits), "edgekit", "int8")
    assert made.section.num_calibration == 32
    assert made.section.equalized is False


def test_layers_named_by_the_recipe_are_spared_instead(tmp_path: Path) -> None:
    made = quantize(job_of(tmp_path, section_of(scheme="static_wi4_ai8", wide_layers=("conv_4",))), Ear().watch)

    assert bits_of(made.model) == {**dict.fromkeys(LAYERS, 4), "conv_4": 8}
    with pytest.raises(RecipeError, match="'nowhere' is no layer"):
        quantize(job_of(tmp_path, section_of(scheme="static_wi4_ai8", wide_layers=("nowhere",))), Ear().watch)


def test_same_job_gives_the_same_integers(tmp_path: Path) -> None:
    first, again = (
        quantize(job_of(tmp_path / name, section_of(scheme="static_wi4_ai8")), Ear().watch) for name in ("a", "b")
    )

    for name, tensor in first.model.constants.items():
        assert np.array_equal(tensor.values, again.model.constants[name].values), name
    assert first.section == again.section


def test_balanced_model_is_the_one_that_is_compared_with(tmp_path: Path) -> None:
    job = job_of(tmp_path, section_of(scheme="static_wi6_ai8", equalize=True))

    made = quantize(job, Ear().watch)

    assert made.section is not None
    assert made.section.equalized is (made.hub is not job.hub)


def test_one_picture_is_enough(tmp_path: Path) -> None:
    made = quantize(job_of(tmp_path, section_of(scheme="static_wi4_ai8", num_calibration=1)), Ear().watch)

    assert made.section is not None
    assert made.section.num_calibration == 1
    assert all(np.isfinite(tensor.dequantize()).all() for tensor in made.model.constants.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget_kb": 3.0}, "quantize.budget_kb chooses the bits"),
        ({"scheme": "static_wi4_ai8", "pareto": 3}, "quantize.pareto chooses the bits"),
        ({"compute": "int4"}, "int4 needs layers of 4 bits"),
        ({"scheme": "static_wi6_ai8", "compute": "int4"}, "int4 needs layers of 4 bits"),
        ({"scheme": "static_wi3_ai8"}, "static_wi3_ai8"),
        ({"scheme": "static_wi9_ai8"}, "static_wi9_ai8"),
        ({"scheme": "dynamic_wi3_ai8"}, "dynamic_wi3_ai8"),
        ({"scheme": "dynamic_wi4_ai8", "rounding": "gptq"}, "quantize.rounding works on static integers"),
        ({"scheme": "dynamic_wi4_ai8", "compute": "int4"}, "quantize.compute works on static integers"),
        ({"scheme": "dynamic_wi8_ai8", "equalize": True}, "quantize.equalize works on static integers"),
        ({"scheme": "dynamic_wi8_ai8", "engine": "nncf"}, "quantize.engine works on static integers"),
        ({"scheme": "few"}, "few"),
    ],
    ids=str,
)
def test_recipes_that_do_not_go_together_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        check_recipe(job_of(tmp_path, section_of(**options)).recipe)
    assert caught.value.hint


def test_shared_weights_do_not_go_to_small_grids(tmp_path: Path) -> None:
    recipe = job_of(tmp_path, section_of(scheme="static_wi4_ai8")).recipe
    share = ShareSection(conv_bits=4)

    with pytest.raises(UsageError, match="weights that are shared"):
        check_recipe(msgspec.structs.replace(recipe, share=share))
    with pytest.raises(UsageError, match="weights that are shared"):
        check_recipe(msgspec.structs.replace(recipe, share=share, quantize=section_of(), qat=QatSection(epochs=1)))
    check_recipe(msgspec.structs.replace(recipe, share=share, quantize=section_of()))


def test_nncf_does_not_train(tmp_path: Path) -> None:
    recipe = job_of(tmp_path, section_of(engine="nncf")).recipe

    with pytest.raises(EdgekitError, match="nncf"):
        check_recipe(msgspec.structs.replace(recipe, qat=QatSection(epochs=1)))


def test_training_numbers_class_folders_as_the_model_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "some", {"train": 6, "test": 2}, num_classes=2)
    hub = hub_of()
    labels = ("one", "class_1", "three", "class_0", "five")
    hub = msgspec.structs.replace(hub, card=msgspec.structs.replace(hub.card, labels=labels))
    job = job_of(tmp_path, section_of(scheme="static_wi6_ai8"), hub=hub)
    recipe = msgspec.structs.replace(job.recipe, qat=QatSection(epochs=1))
    taken: list[QatRequest] = []

    def take(request: QatRequest, _progress: object) -> QatResult:
        taken.append(request)
        return QatResult(quantized=request.start, history=(), start_distance=0.0, distance=0.0)

    monkeypatch.setattr(quantizing, "train_quantized", take)
    quantize(msgspec.structs.replace(job, recipe=recipe, data=str(tmp_path / "some")), Ear().watch)

    pictures = taken[0].pictures
    assert pictures.labels is not None
    assert (pictures.class_names, sorted(pictures.labels.tolist())) == (labels, [1, 1, 1, 3, 3, 3])
