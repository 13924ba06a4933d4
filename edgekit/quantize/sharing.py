"""Weights that stay shared while a network is fine-tuned (Han et al. 2016, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekit.core.errors import GraphError
from edgekit.quantize.codebook import Codebook, Sharing, read_codebook, share
from edgekit.quantize.share_plan import SharePlan

Assignments = Literal["fixed", "refreshed"]
Importance = Mapping[str, npt.NDArray[np.floating]]


class SharedWeights:
    """Clusters weights, then trains the clusters' values.

    The gradient of every weight of a cluster is the sum over the cluster, dL/dC_k = sum of dL/dW_ij over the weights of
    cluster k (Han et al. 2016, eq. 3); optimizers work element by element, so equal weights stay equal. Pinned zeros
    stay exactly zero. Expects a network whose BatchNorm is folded: a norm would scale the exported weights apart.

    There is no state besides the weights: the clusters are the distinct values, so a resumed run goes on exactly.

    Args:
        plan: Layers and how each is shared.
        assignments: "fixed" once at the start, or "refreshed": the weights move freely and are clustered anew after
            every epoch; in the last epoch assignments are fixed, so that the values are trained to the end.
        importance: Layer -> weight of each weight's squared error when clustering, as `share` takes it; layers left
            out: all equal. A resumed run must be given the same.
    """

    def __init__(
        self, plan: SharePlan, assignments: Assignments = "fixed", importance: Importance | None = None
    ) -> None:
        self.plan = plan
        self.assignments = assignments
        self.importance = importance or {}
        self._weights: dict[str, nn.Parameter] = {}
        self._clusters: dict[str, _Clusters] = {}
        self._are_fixed = True

    def attach(self, module: nn.Module) -> None:
        """Cluster the weights; those that have few enough distinct values already are taken as they are.

        Raises:
            GraphError: The plan names a layer that the network does not have.
            RecipeError: Weights that cannot be shared as planned.
        """
        for name, sharing in self.plan.shared.items():
            try:
                self._weights[name] = module.get_parameter(f"{name}.weight")
            except AttributeError as error:
                raise GraphError(f"the share plan names {name!r}, which the model does not have") from error
            book = read_codebook(_array(self._weights[name]), sharing.num_groups)
            if max(book.group_sizes) > sharing.num_clusters:
                self._assign(name, sharing)
            else:
                self._clusters[name] = _Clusters(book, sharing, self._weights[name])

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Let the weights go, if they are to be clustered anew."""
        self._are_fixed = self.assignments == "fixed" or epoch == num_epochs

    @torch.no_grad()
    def before_step(self) -> None:
        """Sum the gradients of every cluster."""
        if self._are_fixed:
            for name, weight in self._weights.items():
                if weight.grad is not None:
                    weight.grad.copy_(self._clusters[name].sums(weight.grad))

    @torch.no_grad()
    def after_step(self, step: int, num_steps: int) -> None:  # noqa: ARG002 - the protocol's; every step is the same
        """Put pinned zeros back; make the weights of a cluster equal to the last bit.

        They are already but for an optimizer whose moments were not (those of an epoch in which they moved freely).
        """
        for name, weight in self._weights.items():
            clusters = self._clusters[name]
            weight.copy_(clusters.means(weight) if self._are_fixed else weight * clusters.mask)

    def after_epoch(self, epoch: int, num_epochs: int) -> None:  # noqa: ARG002 - the protocol's
        """Cluster anew, or note which clusters have met: the state that is saved tells no more either."""
        for name, sharing in self.plan.shared.items():
            if self._are_fixed:
                book = read_codebook(_array(self._weights[name]), sharing.num_groups)
                self._clusters[name] = _Clusters(book, sharing, self._weights[name])
            else:
                self._assign(name, sharing)

    @torch.no_grad()
    def hold(self, state: dict[str, Tensor]) -> None:
        """Give the weights of a cluster their mean in a state dict (averaged weights lag behind), in place."""
        for name, clusters in self._clusters.items():
            state[f"{name}.weight"] = clusters.means(state[f"{name}.weight"])

    @torch.no_grad()
    def _assign(self, name: str, sharing: Sharing) -> None:
        """Cluster a layer's weights and write the values."""
        weight = self._weights[name]
        values = share(_array(weight), sharing, self.importance.get(name)).values
        weight.copy_(torch.from_numpy(values))
        self._clusters[name] = _Clusters(read_codebook(values, sharing.num_groups), sharing, weight)


class _Clusters:
    """The clusters of one weight.

    Args:
        book: Whose centroids are the distinct values.
        sharing: Says whether zeros are pinned.
        weight: For shape and device.
    """

    def __init__(self, book: Codebook, sharing: Sharing, weight: Tensor) -> None:
        self.members = torch.from_numpy(book.indices.reshape(-1).astype(np.int64))
        self.sizes = torch.bincount(self.members, minlength=len(book.centroids))
        values = torch.from_numpy(book.values).to(weight.device)
        self.mask = values != 0 if sharing.pin_zero else torch.ones_like(values, dtype=torch.bool)

    def sums(self, tensor: Tensor) -> Tensor:
        """Each element replaced by the sum over its cluster, taken in float64; pinned zeros by 0."""
        return self._spread(self._totals(tensor), tensor)

    def means(self, tensor: Tensor) -> Tensor:
        """Each element replaced by the mean of its cluster, exact where they are equal; pinned zeros by 0."""
        return self._spread(self._totals(tensor) / self.sizes, tensor)

    def _totals(self, tensor: Tensor) -> Tensor:
        # On the CPU: a GPU's scattered sums come out otherwise every time, and a resumed run must not.
        return torch.bincount(self.members, tensor.reshape(-1).cpu().double(), len(self.sizes))

    def _spread(self, totals: Tensor, like: Tensor) -> Tensor:
        return totals.to(like.dtype)[self.members].reshape(like.shape).to(like.device) * self.mask


def _array(weight: Tensor) -> npt.NDArray[np.float32]:
    return weight.detach().cpu().numpy()
