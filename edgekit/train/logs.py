"""What a training run leaves behind after each epoch: history.json and TensorBoard logs."""

from __future__ import annotations

from pathlib import Path

import msgspec
from tensorboardX import SummaryWriter

from edgekit.core.history import EpochRow
from edgekit.core.storage import write_bytes

HISTORY_NAME = "history.json"
TENSORBOARD_NAME = "tensorboard"


class RunLog:
    """Writes the history of a run folder; use as a context manager.

    Args:
        run_dir: Run folder. A resumed run adds a file to its logs, which TensorBoard reads as one.
    """

    def __init__(self, run_dir: Path) -> None:
        self.history_path = run_dir / HISTORY_NAME
        self.writer = SummaryWriter(str(run_dir / TENSORBOARD_NAME))

    def __enter__(self) -> RunLog:  # noqa: PYI034 - Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def add(self, history: list[EpochRow]) -> None:
        """Log the last row and write the whole history."""
        row = history[-1]
        for tag, value in _scalars(row).items():
            if value is not None:
                self.writer.add_scalar(tag, value, row.epoch)
        self.writer.flush()
        write_bytes(self.history_path, msgspec.json.format(msgspec.json.encode(history)) + b"\n")


def _scalars(row: EpochRow) -> dict[str, float | None]:
    return {
        "loss/train": row.train_loss,
        "loss/validation": row.val_loss,
        "top1/train": row.train_top1,
        "top1/validation": row.val_top1,
        "learning_rate": row.learning_rate,
        "images_per_second": row.images_per_second,
    }
