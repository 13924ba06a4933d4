"""The plans of one shrinking, from a hub graph; each is told before it is carried out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import PruneSection, ShareSection
from edgekit.core.stages import Watch
from edgekit.data.dataset import Source
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.importance import Scores
from edgekit.prune.plan import PrunePlan
from edgekit.prune.sensitivity import Weights, scan_sensitivity, weights_of_graph, with_weights
from edgekit.prune.sparsity import (
    SensitivityPoint,
    SparsityPlan,
    dense_by_default,
    plan_global,
    plan_layer_wise,
    plan_pattern,
)
from edgekit.quantize.codebook import Sharing
from edgekit.quantize.share_plan import SharePlan, plan_sharing
from edgekit.shrink.loss import distance_from
from edgekit.shrink.telling import tell_channels, tell_sharing, tell_sparsity

NUM_SCAN_PICTURES = 256


class Planner:
    """Makes the plans.

    Args:
        prune: What is pruned.
        share: What is shared.
        pictures: For the sensitivity scan.
        spec: Picture to input.
        watch: Told of every plan.
    """

    def __init__(
        self, prune: PruneSection, share: ShareSection, pictures: Source, spec: PreprocessSpec, watch: Watch
    ) -> None:
        self.prune = prune
        self.share = share
        self.pictures = pictures
        self.spec = spec
        self.watch = watch

    def channels(self, graph: Graph, scores: Mapping[str, Scores] | None) -> PrunePlan:
        """Which channels go. Raises `RecipeError` as `plan_channels`."""
        config = ChannelPruning(
            pruning_ratio=self.prune.channels, round_to=self.prune.round_to, ignored_layers=self.prune.ignored_layers
        )
        plan = plan_channels(graph, config, scores)
        self._tell(tell_channels(plan))
        return plan

    def sparsity(self, graph: Graph) -> SparsityPlan:
        """How many weights of each layer become zero. Raises `RecipeError` as the plans of `edgekit.prune.sparsity`."""
        dense = dense_by_default(graph) if self.prune.dense_layers is None else self.prune.dense_layers
        if self.prune.method == "2:4":
            plan = plan_pattern(graph, dense)
        elif self.prune.method == "global":
            plan = plan_global(graph, self.prune.sparsity, dense)
        else:
            plan = plan_layer_wise(graph, self.prune.sparsity, self._scan(graph, dense))
        self._tell(tell_sparsity(plan))
        return plan

    def sharing(self, graph: Graph) -> SharePlan:
        """How many values each layer may take."""
        share = self.share
        depthwise = (node.name for node in graph.nodes if node.op == "Conv" and graph.is_depthwise(node))
        unshared = set(depthwise if share.unshared_layers is None else share.unshared_layers)
        for op, bits in (("Conv", share.conv_bits), ("Gemm", share.fc_bits)):
            unshared.update(node.name for node in graph.nodes if node.op == op and not bits)
        like = Sharing(num_clusters=1, num_groups=share.num_groups, method=share.method, start=share.start)
        plan = plan_sharing(graph, max(1, share.conv_bits), max(1, share.fc_bits), like=like, dense_layers=unshared)
        self._tell(tell_sharing(plan))
        return plan

    def _scan(self, graph: Graph, dense_layers: Iterable[str]) -> tuple[SensitivityPoint, ...]:
        distance = distance_from(graph, self.spec, self.pictures, NUM_SCAN_PICTURES)

        def evaluate(weights: Weights) -> float:
            return distance(with_weights(graph, weights))

        weights = weights_of_graph(graph)
        return scan_sensitivity(evaluate, weights, dense_layers=dense_layers, progress=self.watch.progress)

    def _tell(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.watch.tell(line)
