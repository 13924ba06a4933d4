from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import GraphError, RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import build_model
from edgekit.prune.masking import UPDATE_EVERY, GradualMasks, count_zeros
from edgekit.prune.sparsity import (
    LayerSparsity,
    SensitivityPoint,
    SparsityPlan,
    apply_sparsity,
    cubic_sparsity,
    dense_by_default,
    mask_of,
    plan_global,
    plan_layer_wise,
    plan_pattern,
)

OPTIONS = BuildOptions(variant="mobilenet_v1_w0.25", num_classes=10, input_size=32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    return trace(build_model(OPTIONS), (3, 32, 32), name="m")


def zeros_of(graph: Graph) -> dict[str, float]:
    return {
        node.name: float((graph.constants[node.inputs[1]] == 0).mean())
        for node in graph.nodes
        if node.op in WEIGHTED_OPS
    }


def test_first_and_depthwise_layers_are_dense_by_default(graph: Graph) -> None:
    dense = dense_by_default(graph)
    assert len(dense) == 14
    zeros = zeros_of(apply_sparsity(graph, plan_global(graph, 0.6, dense)))
    assert all(zeros[name] == 0 for name in dense)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.6, 0.9])
def test_global_plan_has_the_share_of_zeros_asked_for(graph: Graph, sparsity: float) -> None:
    plan = plan_global(graph, sparsity, dense_by_default(graph))
    assert plan.sparsity == pytest.approx(sparsity, abs=1e-4)
    pruned = apply_sparsity(graph, plan)
    weights = [pruned.constants[node.inputs[1]] for node in pruned.nodes if node.op in WEIGHTED_OPS]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert zeros / sum(weight.size for weight in weights) == pytest.approx(sparsity, abs=1e-3)


def test_global_plan_removes_nothing_larger_than_what_it_keeps(graph: Graph) -> None:
    plan = plan_global(graph, 0.5, ())
    pruned = apply_sparsity(graph, plan)
    pairs = [
        (np.abs(graph.constants[node.inputs[1]]), pruned.constants[node.inputs[1]] == 0)
        for node in graph.nodes
        if node.op in WEIGHTED_OPS
    ]
    largest_gone = max(magnitude[gone].max() for magnitude, gone in pairs if gone.any())
    smallest_kept = min(magnitude[~gone].min() for magnitude, gone in pairs if not gone.all())
    assert largest_gone <= smallest_kept * (1 + 1e-6)


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.5, float("nan")])
def test_share_out_of_range_is_refused(graph: Graph, sparsity: float) -> None:
    with pytest.raises(RecipeError, match="sparsity"):
        plan_global(graph, sparsity, ())


def test_more_zeros_than_there_is_room_for_are_refused(graph: Graph) -> None:
    with pytest.raises(RecipeError, match="may become zero"):
        plan_global(graph, 0.999, dense_by_default(graph))


def test_layer_wise_plan_prunes_the_insensitive_layer_first(graph: Graph) -> None:
    names = [name for name in zeros_of(graph) if name not in dense_by_default(graph)]
    points = [
        SensitivityPoint(layer=name, sparsity=share, loss=share**2 * (0.001 if name == names[-2] else 1.0))
        for name in names
        for share in (0.3, 0.5, 0.7, 0.9)
    ]
    plan = plan_layer_wise(graph, 0.2, points)
    shares = {each.layer: each.sparsity for each in plan.layers}
    assert plan.sparsity == pytest.approx(0.2, abs=1e-6)
    assert shares[names[-2]] == max(shares.values())
    assert all(shares[name] == 0 for name in dense_by_default(graph))


def test_layer_wise_plan_is_the_cheapest_for_two_layers() -> None:
    torch.manual_seed(0)
    graph = trace(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Linear(8, 16)), (1, 4, 4), name="m"
    )
    names = list(zeros_of(graph))
    curves = {names[0]: (0.01, 0.05, 0.2, 0.9), names[1]: (0.03, 0.06, 0.1, 0.15)}
    shares = (0.3, 0.5, 0.7, 0.9)
    points = [
        SensitivityPoint(layer=name, sparsity=share, loss=loss)
        for name, losses in curves.items()
        for share, loss in zip(shares, losses, strict=True)
    ]

    def cost(name: str, share: float) -> float:
        return float(np.interp(share, (0, *shares), (0, *curves[name])))

    plan = {each.layer: each.sparsity for each in plan_layer_wise(graph, 0.5, points).layers}
    best = min(cost(names[0], share) + cost(names[1], 1.0 - share) for share in np.linspace(0.1, 0.9, 801))
    assert cost(names[0], plan[names[0]]) + cost(names[1], plan[names[1]]) == pytest.approx(best, rel=0.02)


def test_layer_wise_plan_beyond_its_points_is_refused(graph: Graph) -> None:
    point = SensitivityPoint(layer=next(iter(zeros_of(graph))), sparsity=0.9, loss=0.1)
    with pytest.raises(RecipeError, match="may become zero"):
        plan_layer_wise(graph, 0.5, [point])


@given(
    hnp.arrays(np.float32, st.sampled_from([(3, 8, 1, 1), (4, 4, 3, 3), (5, 12)]), elements=st.floats(-2, 2, width=32))
)
def test_pattern_keeps_two_of_every_four_inputs(weight: npt.NDArray[np.float32]) -> None:
    mask = mask_of(weight, 0.5, "2:4")
    fours = np.moveaxis(mask, 1, -1).reshape(-1, 4)
    assert (fours.sum(1) == 2).all()
    magnitudes = np.moveaxis(np.abs(weight), 1, -1).reshape(-1, 4)
    assert (np.where(fours, magnitudes, np.inf).min(1) >= np.where(fours, -np.inf, magnitudes).max(1)).all()


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6)), st.floats(0, 0.999))
def test_mask_has_exactly_the_zeros_asked_for(weight: npt.NDArray[np.float32], sparsity: float) -> None:
    weight = np.nan_to_num(weight)
    assert int((~mask_of(weight, sparsity)).sum()) == round(sparsity * weight.size)


def test_pattern_leaves_layers_dense_that_do_not_divide(graph: Graph) -> None:
    plan = plan_pattern(graph, dense_by_default(graph))
    assert plan.pattern == "2:4"
    zeros = zeros_of(apply_sparsity(graph, plan))
    assert {round(share, 3) for share in zeros.values()} == {0.0, 0.5}


def test_schedule_rises_and_ends_at_its_share() -> None:
    shares = [cubic_sparsity(0.7, step / 20) for step in range(30)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[20] == shares[-1] == 0.7


def train(masks: GradualMasks, module: torch.nn.Module, steps: range, num_steps: int) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.0)
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        module(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()
        masks.after_step(step, num_steps)


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_zeros_hold_through_training_and_end_at_the_plan(graph: Graph, pattern: str | None) -> None:
    dense = dense_by_default(graph)
    plan = plan_pattern(graph, dense) if pattern else plan_global(graph, 0.6, dense)
    torch.manual_seed(0)
    module = build_model(OPTIONS)
    masks = GradualMasks(plan, ramp=0.5)
    masks.attach(module)
    train(masks, module, range(1, 2 * UPDATE_EVERY + 11), 2 * UPDATE_EVERY + 10)
    for counted, wanted in zip(count_zeros(module, plan), plan.layers, strict=True):
        assert counted.num_zeros == pytest.approx(wanted.sparsity * wanted.num_weights, abs=1)


def test_resumed_masks_go_on_as_if_uninterrupted(graph: Graph) -> None:
    plan = plan_global(graph, 0.6, dense_by_default(graph))
    whole, stopped = build_model(OPTIONS), build_model(OPTIONS)
    stopped.load_state_dict(whole.state_dict())
    num_steps, stop = UPDATE_EVERY + 20, UPDATE_EVERY + 5
    masks = GradualMasks(plan, ramp=0.9)
    masks.attach(whole)
    train(masks, whole, range(1, num_steps + 1), num_steps)
    masks = GradualMasks(plan, ramp=0.9)
    masks.attach(stopped)
    train(masks, stopped, range(1, stop), num_steps)
    masks = GradualMasks(plan, ramp=0.9)
    masks.attach(stopped)
    train(masks, stopped, range(stop, num_steps + 1), num_steps)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, stopped.state_dict()[name])


def test_plan_of_another_model_is_refused() -> None:
    plan = SparsityPlan(layers=(LayerSparsity(layer="no.such", num_weights=4, sparsity=0.5),))
    with pytest.raises(GraphError, match=r"no\.such"):
        GradualMasks(plan).attach(build_model(OPTIONS))
