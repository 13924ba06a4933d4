"""Imported MobileNets beside the files they come from: the same answers, and where the others come from.

    python tools/bench_import.py [--quick] [--data FOLDER] [FILE ...]

Every `mobilenet-tflite` FILE (default: the four of FOLDER/models) through LiteRT, and its weights in our own float
network, on every fifth ImageNet sample picture (FOLDER is ../shared/data). Per file: the share of pictures with equal
answers, without the class "background"; the same for a network that pads symmetrically as PyTorch does; the mean
difference of a logit, in steps of the file's own grid, when our network rounds every activation as the file does; and
top-1 of both. `--quick` takes one file. One JSON document on standard output; no times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarking import REPOSITORY, Figure, arguments, machine_figures, note, print_document
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.models.importer import Imported, import_weights
from edgekit.models.tflite_file import TfliteFile, TfliteTensor, read_tflite
from edgekit.models.zoo import build_model
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.preprocess import Picture, fit_picture, normalize, read_picture, to_input

DATA_DIR = REPOSITORY.parent / "shared" / "data"
NAMES = (
    "mobilenet_v1_0.25_128_quant.tflite",
    "mobilenet_v1_0.75_192_quant.tflite",
    "mobilenet_v2_1.0_224_quant.tflite",
    "tf2_mobilenet_v2_1.0_224_ptq.tflite",
)
EVERY = 5
BATCH_SIZE = 10

Logits = npt.NDArray[np.float32]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One file beside our network.

    Args:
        num_pictures: How many pictures both answered.
        agreement: Share of them with the same answer.
        symmetric_agreement: The same for our network with symmetric padding.
        grid_steps: Mean difference of a logit on the file's grids, in steps of its logits' grid.
        file_top1: Share of right answers of the file.
        our_top1: Share of right answers of our network.
    """

    num_pictures: int
    agreement: float
    symmetric_agreement: float
    grid_steps: float
    file_top1: float
    our_top1: float


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=DATA_DIR, help="folder with models/ and imagenet-sample/")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="files, instead of those of the folder")
    options = parser.parse_args(words)
    found = [path for path in (options.data / "models" / name for name in NAMES) if path.is_file()]
    figures = machine_figures()
    for path in (options.files or found)[: 1 if options.quick else None]:
        compared = compare(path, options.data / "imagenet-sample")
        key = path.stem.lower().replace(".", "_").replace("-", "_")
        note(f"{path.name}: {compared.agreement:.1%} the same")
        figures |= {f"{key}.{name}": rounded(value) for name, value in msgspec.structs.asdict(compared).items()}
    print_document(figures)


def rounded(value: float) -> Figure:
    """Four places, and counts as they are."""
    return value if isinstance(value, int) else round(value, 4)


def compare(path: Path, picture_dir: Path) -> Compared:
    """Answers of a file and of the network that its weights make."""
    module, imported = import_weights("mobilenet-tflite", path)
    spec = imported.card.preprocess
    files = sorted(picture_dir.glob("*.jpg"))[::EVERY]
    labels = np.array([int(file.name[:4]) for file in files])
    pictures = np.stack([fit_picture(read_picture(file), spec) for file in files])
    file = read_tflite(path.read_bytes())
    answers = file_logits(path, file, pictures, imported)
    ours = torch_logits(module, pictures, spec)
    symmetric = torch_logits(symmetric_twin(module, imported), pictures, spec)
    put_on_grids(module, file)
    on_grids = torch_logits(module, pictures, spec)
    return Compared(
        num_pictures=len(files),
        agreement=same_answers(ours, answers),
        symmetric_agreement=same_answers(symmetric, answers),
        grid_steps=float(np.abs(on_grids - answers).mean() / softmax_input(file).scale[0]),
        file_top1=float((answers.argmax(1) == labels).mean()),
        our_top1=float((ours.argmax(1) == labels).mean()),
    )


def file_logits(path: Path, file: TfliteFile, pictures: Picture, imported: Imported) -> Logits:
    """What the file itself answers before its softmax, without background."""
    interpreter = load_interpreter(path, keep_tensors=True)
    name = softmax_input(file).name
    rows: list[Logits] = []
    for picture in pictures:
        interpreter.run(to_input(picture[np.newaxis], imported.card.preprocess, interpreter.input))
        rows.append(interpreter.read_tensor(name).reshape(-1)[-imported.card.options.num_classes :])
    return np.stack(rows)


def torch_logits(module: nn.Module, pictures: Picture, spec: PreprocessSpec) -> Logits:
    """What our network answers."""
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(normalize(pictures[start : start + BATCH_SIZE], spec)))
            for start in range(0, len(pictures), BATCH_SIZE)
        ]
    return torch.cat(parts).numpy()


def same_answers(first: Logits, second: Logits) -> float:
    """Share of pictures with the same answer."""
    return float((first.argmax(1) == second.argmax(1)).mean())


def softmax_input(file: TfliteFile) -> TfliteTensor:
    """The logits of a file."""
    return next(file.tensors[one.inputs[0]] for one in file.operators if one.kind == "SOFTMAX")


def symmetric_twin(module: nn.Module, imported: Imported) -> nn.Module:
    """The same weights in a network that pads as PyTorch does."""
    twin = build_model(msgspec.structs.replace(imported.card.options, padding="symmetric"))
    twin.load_state_dict(dict(zip(twin.state_dict(), module.state_dict().values(), strict=True)))
    return twin.eval()


def put_on_grids(module: nn.Module, file: TfliteFile) -> None:
    """Round the output of every layer, in place, as the file's operator at its place does."""
    parts: list[nn.Module] = []
    for block in module.get_submodule("features").children():
        parts += [
            part
            for part in block.modules()
            if isinstance(part, nn.Sequential) and any(isinstance(layer, nn.Conv2d) for layer in part)
        ]
        parts += [block] if getattr(block, "has_shortcut", False) else []
    parts += [module.get_submodule("pool"), module.get_submodule("classifier")]
    operators = [one for one in file.operators if one.kind not in {"QUANTIZE", "RESHAPE", "SOFTMAX"}]
    for part, operator in zip(parts, operators, strict=True):
        part.register_forward_hook(GridHook(file.tensors[operator.outputs[0]]))


class GridHook:
    """Rounds an output onto the grid of a tensor of a file."""

    def __init__(self, tensor: TfliteTensor) -> None:
        self.lowest, self.highest = (0, 255) if tensor.type == "UINT8" else (-128, 127)
        self.scale, self.zero_point = float(tensor.scale[0]), int(tensor.zero_point[0])

    def __call__(self, _module: nn.Module, _inputs: object, real: Tensor) -> Tensor:
        """The real value of the nearest point of the grid."""
        integers = torch.clamp(torch.round(real / self.scale) + self.zero_point, self.lowest, self.highest)
        return (integers - self.zero_point) * self.scale


if __name__ == "__main__":
    main()
