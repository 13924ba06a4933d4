"""Trained weights of others, as a run folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.layout import FLOAT_ONNX, LABELS
from edgekit.core.storage import staged_folder, write_text
from edgekit.export.hub import HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.models.checkpoint import CheckpointCard, read_card, save_checkpoint
from edgekit.models.importer import import_weights
from edgekit.models.weights import CHECKPOINT_NAME


class ImportedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What `import_run` made.

    Args:
        run_dir: Run folder.
        card: Of its checkpoint.
        num_params: Weights and biases.
        num_zeros: Exact zeros among them (pruned weights).
    """

    run_dir: Path
    card: CheckpointCard
    num_params: int
    num_zeros: int


def import_run(format_name: str, path: Path, run_dir: Path) -> ImportedRun:
    """Read trained weights of others into a run folder that `compress` takes: checkpoint and float ONNX.

    Raises:
        UnknownNameError: No such format.
        DataError, IntegrityError: The file cannot be read, or is no such file.
        OutputError: The folder cannot be written.
    """
    module, imported = import_weights(format_name, path)
    with staged_folder(run_dir, last=CHECKPOINT_NAME) as staging:
        save_checkpoint(staging / CHECKPOINT_NAME, module.state_dict(), imported.card)
        hub = load_hub(HubRequest(model=str(staging)))
        write_onnx(hub.graph, staging / FLOAT_ONNX, hub.card)
        write_text(staging / LABELS, "".join(f"{label}\n" for label in hub.card.labels))
    return ImportedRun(
        run_dir=run_dir,
        card=read_card(run_dir / CHECKPOINT_NAME),
        num_params=hub.num_params,
        num_zeros=sum(int((constant == 0).sum()) for constant in hub.graph.constants.values()),
    )
