"""Turn a trained run into embedded weights: float16, measured again as they will be loaded.

    python tools/make_embedded_weights.py RUN_DIR ALIAS [--command TEXT] [--epochs N]

writes edgekit/models/weights/ALIAS.safetensors and ALIAS.json and prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import msgspec
import torch

from edgekit.core.recipe import AugmentSection
from edgekit.data.opening import open_source
from edgekit.models.checkpoint import load_checkpoint, read_card, save_checkpoint
from edgekit.models.weights import CHECKPOINT_NAME, WEIGHTS_DIR
from edgekit.train.feed import BatchMaker
from edgekit.train.validation import validate_on

MAX_BYTES = 1_500_000


def main() -> int:
    """Write the weights of one alias; exit code 1 when they are too large."""
    parser = argparse.ArgumentParser(description="Turn a trained run into embedded weights.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("alias")
    parser.add_argument("--command", help="how the weights were made, without paths of one machine; default: the run's")
    parser.add_argument("--epochs", type=int, help="in all, when the run went on from another; default: the run's")
    arguments = parser.parse_args()
    module, card = load_checkpoint(arguments.run_dir / CHECKPOINT_NAME)
    with tempfile.TemporaryDirectory() as folder:
        half_path = Path(folder) / "half.safetensors"
        save_checkpoint(half_path, module.state_dict(), card, half=True)
        half, _ = load_checkpoint(half_path)
        half_state = half.state_dict()
    source = open_source(card.dataset, "test")
    maker = BatchMaker(card.preprocess, AugmentSection(), torch.device("cpu"))
    _, top1 = validate_on(source, maker)(half)
    card = msgspec.structs.replace(
        card,
        test_top1=top1,
        num_test=len(source),
        command=arguments.command or card.command,
        num_epochs=arguments.epochs or card.num_epochs,
    )
    path = WEIGHTS_DIR / f"{arguments.alias}.safetensors"
    save_checkpoint(path, half_state, card, half=True)
    size_bytes = path.stat().st_size
    card = read_card(path)
    document = {"alias": arguments.alias, "size_bytes": size_bytes, "test_top1": top1, "num_test": card.num_test}
    print(json.dumps({**document, "sha256": card.sha256}))
    return 0 if size_bytes <= MAX_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
