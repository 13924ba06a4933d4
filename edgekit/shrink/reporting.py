"""What the report says of pruning, sharing and coding, from the integers of the exported file; and its bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from edgekit.core.errors import IntegrityError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.layout import MODEL_EKZ
from edgekit.core.measurement import Accuracy
from edgekit.core.recipe import Recipe
from edgekit.core.report import Check, CodingRow, Original, PrunedChannels, ShrinkReport
from edgekit.encode.classic import share_layer
from edgekit.encode.classic_reading import decode_classic
from edgekit.encode.classic_table import ClassicRow, ClassicTable, measure_classic
from edgekit.encode.inspection import inspect_file
from edgekit.export.stored import StoredFile
from edgekit.prune.sparsity import PATTERN_GROUP, PATTERN_KEPT
from edgekit.shrink.request import Shrunk


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Args:
        graph: Of the quantized model: names of layers and constants.
        stored: The integers in the TFLite file.
        run_dir: Folder with the packed file.
        accuracy: Of the TFLite file; None when unlabelled.
    """

    graph: Graph
    stored: StoredFile
    run_dir: Path
    accuracy: Accuracy | None


def measure_coding(exported: Exported, gap_bits: int) -> ClassicTable:
    """Code the exported integers in the classic way; what comes back is compared.

    Raises:
        IntegrityError: The classic coder does not give back what it was given.
    """
    layers = [
        share_layer(node.name, tensor.values.astype(np.float32), _bias(exported, node.inputs))
        for node in exported.graph.nodes
        if node.op in WEIGHTED_OPS and (tensor := exported.stored.constants.get(node.inputs[1])) is not None
    ]
    table = measure_classic(layers, gap_bits)
    for before, after in zip(layers, decode_classic(table.content), strict=True):
        if not np.array_equal(before.weights, after.weights):
            raise IntegrityError(f"the classic coding of layer {before.name} does not decode to its integers")
    return table


def _bias(exported: Exported, inputs: tuple[str, ...]) -> np.ndarray | None:
    return exported.graph.constants[inputs[2]].astype(np.float32) if len(inputs) > 2 else None


def shrink_report(
    shrunk: Shrunk, original: Original, exported: Exported, table: ClassicTable, recipe: Recipe
) -> ShrinkReport:
    """Put the section of the report together."""
    tensors = inspect_file(exported.run_dir / MODEL_EKZ).tensors
    packed = {row.name: row.bytes_before if row.bytes_after is None else row.bytes_after for row in tensors}
    weights = {node.name: node.inputs[1] for node in exported.graph.nodes if node.op in WEIGHTED_OPS}
    limits = most_values(shrunk)
    rows = [
        coding_row(
            row,
            num_levels=np.unique(exported.stored.constants[weights[row.name]].values).size,
            max_levels=limits.get(row.name),
            ekz_bytes=packed.get(weights[row.name]),
        )
        for row in table.rows
    ]
    sizes = [row.ekz_bytes for row in rows]
    total = sum(size for size in sizes if size is not None) if None not in sizes else None
    return ShrinkReport(
        original=original,
        pruning_ratio=recipe.prune.channels,
        channels=tuple(
            PrunedChannels(
                layers=group.layers, num_channels=group.num_channels, num_kept=group.num_kept, reason=group.reason
            )
            for group in (shrunk.channels.groups if shrunk.channels else ())
        ),
        sparsity=1 - table.total.num_kept / table.total.num_weights,
        pattern=shrunk.sparsity.pattern if shrunk.sparsity else None,
        method=recipe.prune.method if shrunk.sparsity else None,
        conv_bits=recipe.share.conv_bits,
        fc_bits=recipe.share.fc_bits,
        num_epochs=shrunk.num_epochs,
        code=recipe.code.method,
        coding=(*rows, coding_row(table.total, num_levels=None, max_levels=None, ekz_bytes=total)),
        float_weight_bytes=4 * original.num_params,
        notes=shrunk.notes,
    )


def coding_row(row: ClassicRow, *, num_levels: int | None, max_levels: int | None, ekz_bytes: int | None) -> CodingRow:
    """A row of the table, beside what our own coder makes of the layer."""
    return CodingRow(
        layer=row.name,
        num_weights=row.num_weights,
        kept=row.density,
        num_levels=num_levels,
        max_levels=max_levels,
        weight_bits=row.weight_bits,
        coded_weight_bits=row.coded_weight_bits,
        index_bits=row.gap_bits,
        coded_index_bits=row.coded_gap_bits,
        shared_bytes=row.shared_bytes,
        classic_bytes=row.coded_bytes,
        ekz_bytes=ekz_bytes,
    )


def most_values(shrunk: Shrunk) -> Mapping[str, int]:
    """Layer -> how many distinct values sharing allows it, over all its groups; only layers that are shared."""
    if shrunk.sharing is None:
        return {}
    return {layer: sharing.num_clusters * sharing.num_groups for layer, sharing in shrunk.sharing.shared.items()}


def judge_shrinking(shrunk: Shrunk, original: Original, exported: Exported, max_drop: float) -> tuple[Check, ...]:
    """The bars of pruning and sharing, on the exported file.

    Args:
        shrunk: The plans.
        original: The model before.
        exported: What was written.
        max_drop: Largest loss of top-1 against the original, in points.
    """
    checks: list[Check] = []
    if original.accuracy is not None and exported.accuracy is not None:
        drop = 100 * (original.accuracy.top1 - exported.accuracy.top1)
        checks.append(
            Check(
                name="TFLite keeps the original's accuracy",
                passed=drop <= max_drop,
                measured=f"{'lost' if drop > 0 else 'gained'} {abs(drop):.2f} points of top-1",
                bar=f"at most {max_drop:g} points lost",
            )
        )
    if shrunk.sharing is not None:
        checks.append(_judge_values(shrunk, exported))
    if shrunk.sparsity is not None:
        checks.append(_judge_zeros(shrunk, exported))
    return tuple(checks)


def _judge_values(shrunk: Shrunk, exported: Exported) -> Check:
    """Cluster counts, from the exported file."""
    worst, measured = None, "every shared layer"
    limits = most_values(shrunk)
    for node in exported.graph.nodes:
        if node.name in limits:
            count = np.unique(exported.stored.constants[node.inputs[1]].values).size
            if count > limits[node.name]:
                worst, measured = node.name, f"{count} values where {limits[node.name]} are allowed"
                break
    return Check(
        name="shared layers have no more values than they may",
        passed=worst is None,
        measured=measured,
        bar="the clusters of the plan",
        layer=worst,
    )


def _judge_zeros(shrunk: Shrunk, exported: Exported) -> Check:
    """Zeros that were planned are zeros in the file."""
    plan = shrunk.sparsity
    shares = {} if plan is None else {each.layer: each.sparsity for each in plan.layers}
    pattern = None if plan is None else plan.pattern
    lacking: str | None = None
    num_zeros = num_weights = 0
    for node in exported.graph.nodes:
        if node.op not in WEIGHTED_OPS or node.inputs[1] not in exported.stored.constants:
            continue
        values = exported.stored.constants[node.inputs[1]].values
        zeros = int((values == 0).sum())
        num_zeros, num_weights = num_zeros + zeros, num_weights + values.size
        is_short = zeros < round(shares.get(node.name, 0.0) * values.size)
        if lacking is None and (is_short or (pattern == "2:4" and shares.get(node.name) and not follows_2_4(values))):
            lacking = node.name
    return Check(
        name="planned zeros are zeros in the file",
        passed=lacking is None,
        measured=f"{100 * num_zeros / max(1, num_weights):.2f} % zeros",
        bar=f"{100 * (plan.sparsity if plan else 0):.2f} %, layer by layer{', two in every four' if pattern else ''}",
        layer=lacking,
    )


def follows_2_4(values: np.ndarray) -> bool:
    """Whether of every four neighbours along the inputs at most two are not zero.

    >>> follows_2_4(np.array([[1, 0, 2, 0], [0, 0, 0, 3]])), follows_2_4(np.array([[1, 1, 2, 0]]))
    (True, False)
    """
    rows = np.moveaxis(values, 1, -1).reshape(-1, PATTERN_GROUP)
    return bool(((rows != 0).sum(axis=1) <= PATTERN_KEPT).all())
