"""Scans of layer sensitivity, on torch modules and on hub graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import DataError, GraphError, RecipeError
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.folded import fold_batch_norms
from edgekit.models.zoo import build_model
from edgekit.prune.sensitivity import (
    SHARES,
    Weight,
    Weights,
    module_loss,
    scan_sensitivity,
    weights_of_graph,
    weights_of_module,
    with_weights,
)
from edgekit.prune.sparsity import dense_by_default, plan_layer_wise

WEIGHTS: dict[str, Weight] = {
    "first": np.array([[1.0, -2.0, 3.0, -4.0]], np.float32),
    "second": np.array([[10.0, 1.0]], np.float32),
}


def lost_mass(weights: Weights) -> float:
    """A loss of 5 plus the magnitude that was taken away."""
    return 5 + float(sum(np.abs(WEIGHTS[name] - weight).sum() for name, weight in weights.items()))


def test_each_layer_alone_is_pruned_by_magnitude() -> None:
    points = scan_sensitivity(lost_mass, WEIGHTS, shares=(0.75, 0.5))
    assert [(point.layer, point.sparsity, point.loss) for point in points] == [
        ("first", 0.5, 3.0),
        ("first", 0.75, 6.0),
        ("second", 0.5, 1.0),
        ("second", 0.75, 11.0),
    ]


def test_dense_layers_are_not_tried() -> None:
    asked: list[tuple[str, ...]] = []

    def evaluate(weights: Weights) -> float:
        asked.append(tuple(weights))
        return 1.0

    points = scan_sensitivity(evaluate, WEIGHTS, dense_layers=("first",))
    assert {point.layer for point in points} == {"second"}
    assert asked == [(), *[("second",)] * len(SHARES)]


def test_share_at_which_the_loss_is_no_number_is_left_out_with_those_above() -> None:
    def evaluate(weights: Weights) -> float:
        return float("nan") if "first" in weights and not weights["first"][0, 1] else lost_mass(weights)

    points = scan_sensitivity(evaluate, WEIGHTS, shares=(0.25, 0.5, 0.75))
    assert [point.sparsity for point in points if point.layer == "first"] == [0.25]
    assert [point.sparsity for point in points if point.layer == "second"] == [0.25, 0.5, 0.75]


def test_dense_model_without_a_loss_is_refused() -> None:
    with pytest.raises(DataError, match="dense model is nan"):
        scan_sensitivity(lambda _: float("nan"), WEIGHTS)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(RecipeError, match="out of range"):
        scan_sensitivity(lost_mass, WEIGHTS, shares=(0.5, share))


def make_module() -> tuple[nn.Module, Graph]:
    torch.manual_seed(0)
    module = build_model(BuildOptions(variant="mobilenet_v1", width=0.125, num_classes=5, input_size=32))
    return module, trace(module, (3, 32, 32), name="m")


def make_batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 5) for n in (8, 4)]


def test_module_is_left_as_it_was_even_when_a_layer_is_unknown() -> None:
    module, graph = make_module()
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    evaluate = module_loss(module, make_batches())
    points = scan_sensitivity(evaluate, weights_of_module(module, graph), dense_layers=dense_by_default(graph))
    with pytest.raises(GraphError, match="nowhere"):
        evaluate({"nowhere": np.ones(1, np.float32)})
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert len(points) == 14 * len(SHARES)  # 13 pointwise layers and the classifier
    assert points == scan_sensitivity(evaluate, weights_of_module(module, graph), dense_layers=dense_by_default(graph))
    assert 0.25 < plan_layer_wise(graph, 0.3, points).sparsity < 0.35


def test_module_loss_is_the_mean_over_the_pictures() -> None:
    module, _ = make_module()
    batches = make_batches()
    whole = torch.cat([pictures for pictures, _ in batches]), torch.cat([labels for _, labels in batches])
    with torch.no_grad():
        expected = functional.cross_entropy(module.eval()(whole[0]), whole[1]).item()
    assert module_loss(module, batches)({}) == pytest.approx(expected, rel=1e-5)


def test_loss_without_pictures_is_refused() -> None:
    with pytest.raises(DataError, match="at least one picture"):
        module_loss(make_module()[0], [])


def test_graph_and_folded_module_agree(tmp_path: Path) -> None:
    module, graph = make_module()
    fold_batch_norms(module)
    batches = make_batches()
    spec = PreprocessSpec(input_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    card = ModelCard(model="m", scheme="float", labels=tuple("abcde"), preprocess=spec)

    def evaluate(weights: Weights) -> float:
        write_onnx(with_weights(graph, weights), tmp_path / "m.onnx", card)
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        total = 0.0
        for pictures, labels in batches:
            logits = torch.from_numpy(np.asarray(session.run(None, {name: pictures.numpy()})[0]))
            total += functional.cross_entropy(logits, labels, reduction="sum").item()
        return total / 12

    dense = [layer for layer in weights_of_graph(graph) if layer != "classifier"][:-2]
    by_graph = scan_sensitivity(evaluate, weights_of_graph(graph), shares=(0.5,), dense_layers=dense)
    by_module = scan_sensitivity(
        module_loss(module, batches), weights_of_module(module, graph), shares=(0.5,), dense_layers=dense
    )
    assert [point.layer for point in by_graph] == [point.layer for point in by_module]
    assert len(by_graph) == 3
    assert [point.loss for point in by_graph] == pytest.approx([point.loss for point in by_module], abs=1e-4)


def test_weights_for_a_layer_that_the_graph_lacks_are_refused() -> None:
    with pytest.raises(GraphError, match="nowhere"):
        with_weights(make_module()[1], {"nowhere": np.ones(1, np.float32)})
