"""Which board this is."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.board import Board, list_boards, load_board, match_board

DEVICE_TREE_MODEL_PATH = Path("/sys/firmware/devicetree/base/model")


def detect_board(model_path: Path = DEVICE_TREE_MODEL_PATH) -> Board:
    """Tell the board from the device tree; `host_cpu` where there is none (PCs) or no file describes it."""
    try:
        model = model_path.read_text(encoding="utf-8", errors="replace").rstrip("\0\n")
    except OSError:
        model = ""
    return load_board(match_board(model, tuple(load_board(name) for name in list_boards())))
