"""Training images/s of edgekit's loop beside a plain PyTorch loop with a DataLoader.

Same network, batch size, pictures, optimizer and kind of augmentation (reflected padding, random crop, flip), in one
process, in turns. The plain loop is what people usually write: per-picture augmentation in a Dataset, two workers,
default memory format, the default optimizer, `loss.item()` every step. Its workers are warm before the clock starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import benchmarking
from benchmarking import Figure, Sample
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Silent
from edgekit.core.recipe import AugmentSection, TrainSection
from edgekit.data.memory import MemorySource
from edgekit.data.opening import find_dataset, open_source
from edgekit.data.reading import load_into_memory
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import build_model, parse_model_name, with_sizes
from edgekit.train.device import choose_device, place
from edgekit.train.feed import BatchMaker, MemoryFeed
from edgekit.train.loop import Hooks, Trainer
from edgekit.train.memory import retained_memory
from edgekit.train.pace import NORMALIZED

MODELS = ("mobilenet_v2_w0.5", "squeezenet1_1_w0.5", "shufflenet_v2_x0_5")
SIZE = 32
PADDING = 4
BATCH_SIZE = 128
NUM_WORKERS = 2
NUM_STEPS = 20
NUM_QUICK_STEPS = 4
RATE = 0.01
CONFIG = TrainSection(epochs=10_000, batch_size=BATCH_SIZE, learning_rate=RATE, warmup_epochs=0)


def synthesize(num: int) -> MemorySource:
    """Random pictures of ten classes: their content does not change the work."""
    generator = np.random.default_rng(0)
    return MemorySource(
        name="synthetic",
        split="train",
        class_names=tuple("0123456789"),
        pictures=generator.integers(0, 256, (num, SIZE, SIZE, 3), np.uint8),
        labels=generator.integers(0, 10, num),
    )


def open_pictures(*, synthetic: bool, num: int) -> tuple[MemorySource, PreprocessSpec]:
    """Training pictures of CIFAR-10 (as it is found, JPEG or not), or synthetic ones; and their normalization."""
    spec = PreprocessSpec(input_size=(SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    if synthetic:
        return synthesize(num), spec
    dataset, source = find_dataset("cifar10"), open_source("cifar10", "train")
    held = source if isinstance(source, MemorySource) else load_into_memory(source)
    spec = PreprocessSpec(input_size=(SIZE, SIZE), mean=dataset.mean, std=dataset.std)
    return held.take(np.arange(min(num, len(held))), split="train"), spec


class PlainDataset(Dataset[tuple[Tensor, int]]):
    """One augmented, normalized picture at a time."""

    def __init__(self, source: MemorySource, spec: PreprocessSpec) -> None:
        if source.labels is None:
            raise ValueError("no labels")
        self.pictures, self.labels = source.pictures, source.labels
        self.mean = torch.tensor(spec.mean)[:, None, None]
        self.std = torch.tensor(spec.std)[:, None, None]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Float [3, h, w] and label."""
        picture: npt.NDArray[np.uint8] = self.pictures[index]
        picture = np.pad(picture, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="reflect")
        top, left = torch.randint(0, 2 * PADDING + 1, (2,)).tolist()
        picture = picture[top : top + SIZE, left : left + SIZE]
        if torch.rand(()) < 0.5:
            picture = picture[:, ::-1]
        tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 255
        return (tensor - self.mean) / self.std, int(self.labels[index])


class Plain:
    """The plain loop, ready to run some more steps."""

    def __init__(self, options: BuildOptions, source: MemorySource, spec: PreprocessSpec) -> None:
        self.device = choose_device()
        self.module = build_model(options).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.module.parameters(),
            lr=RATE,
            momentum=0.9,
            nesterov=True,
            weight_decay=NORMALIZED.weight_decay,
        )
        self.loader: DataLoader[Any] = DataLoader(
            PlainDataset(source, spec),
            batch_size=BATCH_SIZE,
            shuffle=True,
            drop_last=True,
            num_workers=NUM_WORKERS,
            persistent_workers=True,
        )
        self.batches = self._endless()
        self.run(1)

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def run(self, num_steps: int) -> None:
        """Train."""
        self.module.train()
        loss_sum, num_right = 0.0, 0
        for _ in range(num_steps):
            pictures, labels = next(self.batches)
            pictures, labels = pictures.to(self.device), labels.to(self.device)
            logits = self.module(pictures)
            loss = functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.item() * len(labels)
            num_right += int((logits.argmax(1) == labels).sum())


def make_ours(options: BuildOptions, source: MemorySource, spec: PreprocessSpec, num_steps: int) -> Callable[[], None]:
    """Our loop: each call is an epoch of `num_steps` batches, with all that an epoch does but validation."""
    device = choose_device()
    part = source.take(np.arange(num_steps * BATCH_SIZE), split="train")
    maker = BatchMaker(spec, AugmentSection(crop_padding=PADDING, flip=True), device)
    hooks = Hooks(validate=None, progress=Silent(), on_epoch=lambda _: None)
    feed = MemoryFeed(part, maker, BATCH_SIZE, CONFIG.seed)
    trainer = Trainer(place(build_model(options), device), feed, CONFIG, hooks)
    epochs = iter(range(1, CONFIG.epochs))

    def run() -> None:
        trainer.run_epoch(next(epochs))

    return run


def make_bare(options: BuildOptions, num_steps: int) -> Callable[[], None]:
    """Forward, backward and update on one fixed batch, laid out and optimized as in our loop: what no loop can beat."""
    device = choose_device()
    module: nn.Module = place(build_model(options), device).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9, nesterov=True, foreach=True)
    pictures = torch.randn(BATCH_SIZE, 3, SIZE, SIZE, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH_SIZE,), device=device)

    def run() -> None:
        with retained_memory():
            for _ in range(num_steps):
                optimizer.zero_grad()
                functional.cross_entropy(module(pictures), labels).backward()
                optimizer.step()

    return run


def timed_with_children(call: Callable[[], object]) -> Sample:
    """Wall time, and CPU time of this process and of the loader's workers."""
    children = psutil.Process().children(recursive=True)

    def cpu_seconds() -> float:
        times = [child.cpu_times() for child in children]
        return time.process_time() + sum(each.user + each.system for each in times)

    cpu_before, wall_before = cpu_seconds(), time.perf_counter()
    call()
    return Sample(wall_s=time.perf_counter() - wall_before, cpu_s=cpu_seconds() - cpu_before)


def compare(
    model: str, source: MemorySource, spec: PreprocessSpec, num_steps: int, num_rounds: int
) -> dict[str, Figure]:
    """Let our loop, the plain one and the bare step take turns on one network."""
    options = with_sizes(parse_model_name(model), num_classes=len(source.class_names), input_size=SIZE)
    plain = Plain(options, source, spec)
    contestants = {
        "ours": make_ours(options, source, spec, num_steps),
        "plain": lambda: plain.run(num_steps),
        "bare": make_bare(options, num_steps),
    }
    contestants["ours"]()  # first-time costs (page faults, kernel selection) belong to nobody
    contestants["bare"]()
    calls = {name: (lambda call=call: timed_with_children(call)) for name, call in contestants.items()}
    samples = benchmarking.interleave(calls, num_rounds)
    num_pictures = num_steps * BATCH_SIZE
    figures: dict[str, Figure] = {}
    for name, taken in samples.items():
        figures[f"{model}.images_per_second_{name}"] = round(num_pictures / median(each.wall_s for each in taken), 1)
        figures[f"{model}.cpu_ms_per_image_{name}"] = round(
            1e3 * median(each.cpu_s for each in taken) / num_pictures, 3
        )
    rounds = list(zip(samples["ours"], samples["plain"], samples["bare"], strict=True))
    figures[f"{model}.throughput_ratio"] = round(median(plain.wall_s / ours.wall_s for ours, plain, _ in rounds), 3)
    figures[f"{model}.cpu_ratio"] = round(median(plain.cpu_s / ours.cpu_s for ours, plain, _ in rounds), 3)
    figures[f"{model}.loop_overhead_percent"] = round(
        100 * median(ours.cpu_s / bare.cpu_s - 1 for ours, _, bare in rounds), 2
    )
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the document."""
    parser = benchmarking.arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help="default: %(default)s")
    parser.add_argument("--synthetic", action="store_true", help="random pictures instead of CIFAR-10")
    options = parser.parse_args(argv)
    num_steps = NUM_QUICK_STEPS if options.quick else NUM_STEPS
    num_rounds = 1 if options.quick else benchmarking.NUM_ROUNDS
    source, spec = open_pictures(synthetic=options.synthetic, num=100 * BATCH_SIZE)
    figures: dict[str, Figure] = {
        "dataset": source.name,
        "batch_size": BATCH_SIZE,
        "num_steps": num_steps,
        "num_rounds": num_rounds,
        "num_threads": torch.get_num_threads(),
        "num_loader_workers": NUM_WORKERS,
        "torch": torch.__version__,
        "device": str(choose_device()),
        **benchmarking.machine_figures(),
    }
    for model in options.models:
        benchmarking.note(f"{model}: {num_rounds} rounds of {num_steps} steps for each of three loops")
        figures |= compare(model, source, spec, num_steps, num_rounds)
    ratios = [value for key, value in figures.items() if key.endswith(".throughput_ratio") and isinstance(value, float)]
    figures["throughput_ratio"] = min(ratios)
    benchmarking.print_document(figures)


if __name__ == "__main__":
    main()
