"""Prune channels, prune weights, share: in this order, each planned first as data, then carried out."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from edgekit.core.graph import Graph
from edgekit.core.stages import Watch
from edgekit.data.dataset import Source
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.torch_graph import trace
from edgekit.models.checkpoint import save_checkpoint
from edgekit.models.folded import fold_batch_norms
from edgekit.models.weights import CHECKPOINT_NAME, load_weights
from edgekit.models.widths import merge_widths
from edgekit.prune.cutting import apply_plan
from edgekit.prune.gradients import squared_gradients, taylor
from edgekit.prune.importance import Scores, bn_scale
from edgekit.prune.masking import GradualMasks
from edgekit.prune.module import cut_module
from edgekit.prune.plan import PrunePlan
from edgekit.prune.sparsity import SparsityPlan, apply_sparsity
from edgekit.quantize.share_plan import SharePlan, apply_sharing
from edgekit.quantize.sharing import SharedWeights
from edgekit.shrink.finetuning import Finetuner, Stage, find_training_pictures
from edgekit.shrink.planning import Planner
from edgekit.shrink.request import ShrinkRequest, Shrunk


def shrink(request: ShrinkRequest, hub: HubModel, calibration: Source, watch: Watch) -> Shrunk:
    """Prune and share a model as its recipe asks.

    A model that edgekit trained is fine-tuned after every step where its training pictures are at hand. An ONNX file
    has no torch model: it is pruned and shared as it is.

    Args:
        request: What is asked for.
        hub: The model.
        calibration: Pictures for the sensitivity scan.
        watch: Clock, progress, lines for people.

    Raises:
        RecipeError: Shares out of range or beyond reach, an unknown layer.
        UsageError: Gradients are asked for, and there are no training pictures.
        EdgekitError: As training raises them.
    """
    if not request.resume:
        shutil.rmtree(request.work_dir, ignore_errors=True)
    planner = Planner(request.recipe.prune, request.recipe.share, calibration, hub.card.preprocess, watch)
    if hub.torch_logits is None or not hub.trained:
        return shrink_graph(request, hub, planner)
    return _ModuleStages(request, hub, planner).run()


def shrink_graph(request: ShrinkRequest, hub: HubModel, planner: Planner) -> Shrunk:
    """The same on a hub graph, without fine-tuning. Raises as `shrink`."""
    note = "no torch model: pruned and shared without fine-tuning"
    planner.watch.tell(note)
    graph = hub.graph
    channels: PrunePlan | None = None
    sparsity: SparsityPlan | None = None
    sharing: SharePlan | None = None
    prune, share = request.recipe.prune, request.recipe.share
    with planner.watch.clock.stage("shrink"):
        if prune.channels:
            channels = planner.channels(graph, None)
            graph = apply_plan(graph, channels)
        if prune.makes_zeros:
            sparsity = planner.sparsity(graph)
            graph = apply_sparsity(graph, sparsity)
        if share.is_asked:
            sharing = planner.sharing(graph)
            graph = apply_sharing(graph, sharing)
    small = msgspec.structs.replace(hub, graph=graph, num_params=graph.num_params, torch_logits=None)
    return Shrunk(hub=small, channels=channels, sparsity=sparsity, sharing=sharing, notes=(note,))


class _ModuleStages:
    """The stages on a torch model; each takes weights by the name of their folder and leaves its own."""

    def __init__(self, request: ShrinkRequest, hub: HubModel, planner: Planner) -> None:
        _, card = load_weights(request.recipe.model.name)
        data = find_training_pictures((request.data, hub.dataset))
        self.request = request
        self.planner = planner
        self.prune = request.recipe.prune
        self.share = request.recipe.share
        self.tuner = Finetuner(request, card, data, planner.watch.progress)
        self.notes: tuple[str, ...] = ()
        if data is None:
            self.notes = (f"no training pictures of {hub.dataset} here: pruned and shared without fine-tuning",)
            planner.watch.tell(self.notes[0])

    def run(self) -> Shrunk:
        clock = self.planner.watch.clock
        channels: PrunePlan | None = None
        sparsity: SparsityPlan | None = None
        sharing: SharePlan | None = None
        weights: Path | str = self.request.recipe.model.name
        if self.prune.channels:
            with clock.stage("prune channels"):
                weights, channels = self._prune_channels(weights)
        if self.prune.makes_zeros:
            with clock.stage("prune weights"):
                weights, sparsity = self._prune_weights(weights)
        if self.share.is_asked:
            with clock.stage("share weights"):
                weights, sharing = self._share(weights)
        return Shrunk(
            hub=load_hub(HubRequest(model=str(weights))),
            checkpoint_dir=Path(weights),
            channels=channels,
            sparsity=sparsity,
            sharing=sharing,
            num_epochs=self.tuner.num_epochs,
            notes=self.notes,
        )

    def _prune_channels(self, weights: Path | str) -> tuple[Path, PrunePlan]:
        module, card = load_weights(str(weights))
        spec = card.preprocess
        graph = trace(module, (spec.num_channels, *spec.input_size), name=card.options.variant)
        scores: dict[str, Scores] | None = None
        if self.prune.importance == "taylor":
            scores = taylor(module, self.tuner.gradient_batches())
        elif self.prune.importance == "bn_scale":
            scores = bn_scale(module, graph)
        plan = self.planner.channels(graph, scores)
        widths = merge_widths(card.widths, cut_module(module, plan))
        start = self.request.work_dir / "cut"
        save_checkpoint(start / CHECKPOINT_NAME, module.state_dict(), msgspec.structs.replace(card, widths=widths))
        return self.tuner.run(self._pruning("channels"), start, None), plan

    def _prune_weights(self, weights: Path | str) -> tuple[Path, SparsityPlan]:
        plan = self.planner.sparsity(_graph_of(weights))
        masks = GradualMasks(plan, self.prune.ramp)
        return self.tuner.run(self._pruning("zeros"), weights, masks), plan

    def _share(self, weights: Path | str) -> tuple[Path, SharePlan]:
        module, card = load_weights(str(weights))
        fold_batch_norms(module)
        start = self.request.work_dir / "folded"
        save_checkpoint(start / CHECKPOINT_NAME, module.state_dict(), msgspec.structs.replace(card, folded=True))
        plan = self.planner.sharing(_graph_of(start))
        importance = None
        if self.share.weighting == "squared_gradient":
            importance = squared_gradients(module, self.tuner.gradient_batches())
        stage = Stage(
            name="shared",
            epochs=self.share.epochs,
            optimizer="adamw",
            learning_rate=self.share.learning_rate,
            decays_weights=False,
            reestimate_norms=False,
        )
        constraint = SharedWeights(plan, self.share.assignments, importance)
        return self.tuner.run(stage, start, constraint), plan

    def _pruning(self, name: str) -> Stage:
        return Stage(
            name=name, epochs=self.prune.epochs, optimizer=self.prune.optimizer, learning_rate=self.prune.learning_rate
        )


def _graph_of(weights: Path | str) -> Graph:
    return load_hub(HubRequest(model=str(weights))).graph
