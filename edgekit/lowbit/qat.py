"""Quantization-aware training: from a quantized graph to a better one, on pictures, with the float graph as teacher."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekit.core.errors import UsageError
from edgekit.core.graph import Graph
from edgekit.core.history import EpochRow
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress, Silent
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import AugmentSection, QatSection, TrainSection
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.reading import iterate_batches
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.oscillation import GuardConfig, OscillationGuard, swinging_layers
from edgekit.quantize.qat import make_trainable, read_out
from edgekit.quantize.reestimation import reestimate_biases, watch_results
from edgekit.train.augment import Mixed
from edgekit.train.device import choose_device, place
from edgekit.train.feed import BatchMaker, Feed, MemoryFeed
from edgekit.train.loop import Hooks, Trainer
from edgekit.train.loss import distillation_loss
from edgekit.train.splits import fit_in_memory
from edgekit.train.stream import StreamFeed

STATE_NAME = "qat_state.safetensors"
BATCH_SIZE = 128
_NUM_HELD_OUT = 2048
_LARGEST_HELD_OUT_SHARE = 0.1
_NUM_BIAS_PICTURES = 256
_MAX_ACTIVATION_BYTES = 256 << 20
_WARMUP_EPOCHS = 0.1


class QatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be trained, and on what.

    Args:
        start: The integers to begin with, from quantization without training.
        teacher: The float graph.
        spec: Picture to input.
        pictures: To learn from; without labels only when the float network alone is the teacher.
        config: How to train.
        augment: Random changes to the pictures.
        work_dir: Where the resumable state lies, written after every epoch.
        resume: Go on from it.
    """

    start: QuantizedGraph
    teacher: Graph
    spec: PreprocessSpec
    pictures: Source
    config: QatSection
    augment: AugmentSection = msgspec.field(default_factory=AugmentSection)
    work_dir: Path
    resume: bool = False


class QatResult(msgspec.Struct, frozen=True, kw_only=True):
    """What training made.

    Args:
        quantized: The integers.
        history: One row per epoch; `val_loss` is the distance below, `val_top1` the agreement with the float network.
        start_distance: Mean KL divergence from the float network's answers on held-out pictures, nats, before.
        distance: The same of what is given back.
        num_frozen: Weights that were held because they swung.
        notes: What was done otherwise than one would expect, for people.
    """

    quantized: QuantizedGraph
    history: tuple[EpochRow, ...]
    start_distance: float
    distance: float
    num_frozen: int = 0
    notes: tuple[str, ...] = ()


def train_quantized(request: QatRequest, progress: Progress | None = None) -> QatResult:
    """Train weights, steps and zero-points of a quantized graph on its own grids.

    A tenth of the pictures, at most 2,048, is held out. When the network trained is no nearer to the float one there
    than the start was, the start is given back, and a note says so; a bias re-estimation is kept under the same rule.

    Args:
        request: What, on what, how.
        progress: Shows how far it is.

    Raises:
        UsageError: Labels are asked for, and there are none that fit; too few pictures.
        TrainingError: The loss is not finite, or the state to resume from is of another request.
        CheckpointError: The state to resume from is damaged.
        DataError: Too many unreadable pictures.
    """
    run = _Run(request, progress or Silent())
    if request.config.epochs == 0:
        return QatResult(
            quantized=request.start, history=(), start_distance=run.start_distance, distance=run.start_distance
        )
    return run.train()


class _Run:
    """One training: network, teacher, pictures."""

    def __init__(self, request: QatRequest, progress: Progress) -> None:
        config = request.config
        self.request = request
        self.progress = progress
        self.notes: list[str] = []
        device = choose_device()
        self.maker = BatchMaker(request.spec, request.augment, device)
        num_classes = request.teacher.shapes[request.teacher.output][-1]
        self.has_labels = _labels_fit(request.pictures, num_classes)
        if config.distill_weight < 1 and not self.has_labels:
            raise UsageError(
                f"qat.distill_weight is {config.distill_weight:g}, and {request.pictures.name} has no labels of the "
                f"network's {num_classes} classes",
                hint="set qat.distill_weight=1.0 to learn from the float network alone",
            )
        self.train_part, self.held_out = _hold_out(request.pictures)
        self.batch_size = min(config.batch_size or _fitting_batch(len(self.train_part)), len(self.train_part))
        self.teacher = place(GraphNetwork(request.teacher), device).eval().requires_grad_(requires_grad=False)
        self.network = make_trainable(request.start, config.start)
        all_layers = config.swinging_layers == "all"
        guarded = GuardConfig(
            layers=swinging_layers(self.network, all_layers=all_layers),
            damping=config.damping,
            freeze_threshold=config.freeze_threshold,
            keeps_zeros=bool(config.keep_zeros),
        )
        self.guard = OscillationGuard(self.network, guarded)
        watch_results(self.network)
        self.network = place(self.network, device)
        self.measure = _distance_on(self.held_out, self.maker, self.teacher)
        self.start_distance = self.measure(self.network.eval())[0]

    def train(self) -> QatResult:
        request = self.request
        hooks = Hooks(validate=self.measure, progress=self.progress, on_epoch=lambda _: None, constraint=self.guard)
        state_path = request.work_dir / STATE_NAME
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            trainer = Trainer(self.network, self._feed(), self._train_section(), hooks, self.teacher)
            state = trainer.run(state_path, resume=request.resume)
        self.network.load_state_dict(state)
        self.network.eval()
        distance = self.measure(self.network)[0]
        distance = self._reestimate(distance)
        quantized = read_out(self.network, request.start)
        if not distance <= self.start_distance:
            self.notes.append(
                f"training made the answers on {len(self.held_out)} held-out pictures no better "
                f"({distance:.4g} nats from float, {self.start_distance:.4g} before): the start was kept"
            )
            quantized, distance = request.start, self.start_distance
        return QatResult(
            quantized=quantized,
            history=tuple(trainer.history),
            start_distance=self.start_distance,
            distance=distance,
            num_frozen=self.guard.num_frozen,
            notes=tuple(self.notes),
        )

    def _reestimate(self, distance: float) -> float:
        """Re-estimate biases, and take it back where that is no gain; returns the distance of what was kept."""
        before = {name: self.network.bias(name).detach().clone() for name in self.network.layers}
        reestimate_biases(self.network, self._plain_pictures())
        after = self.measure(self.network)[0]
        if after <= distance:
            self.notes.append(f"biases re-estimated: {distance:.4g} nats from float before, {after:.4g} after")
            return after
        for name, bias in before.items():
            self.network.bias(name).data.copy_(bias)
        self.notes.append(
            f"biases kept as trained: re-estimated, {after:.4g} nats from float instead of {distance:.4g}"
        )
        return distance

    def _plain_pictures(self) -> Tensor:
        """Training pictures as they are classified: 256, or as many as fit in memory."""
        graph = self.request.start.graph
        largest = max(int(np.prod(graph.shapes[name][1:])) for name in graph.activations())
        num = max(1, min(_NUM_BIAS_PICTURES, _MAX_ACTIVATION_BYTES // (4 * largest)))
        chosen = draw_order(len(self.train_part), seed=self.request.config.seed)[:num]
        batches = iterate_batches(self.train_part, self.request.spec, batch_size=num, indices=chosen)
        return torch.cat([_normalized(batch.pictures, self.maker) for batch in batches])

    def _feed(self) -> Feed:
        seed = self.request.config.seed
        source = self.train_part if self.has_labels else _with_any_labels(self.train_part)
        fitted = fit_in_memory(source, self.request.spec)
        if fitted is None:
            feed: Feed = StreamFeed(source, self.maker, self.batch_size, seed)
        else:
            feed = MemoryFeed(fitted, self.maker, self.batch_size, seed)
        return feed if self.has_labels else _Unlabelled(feed)

    def _train_section(self) -> TrainSection:
        """The loop's own settings; `init` tells runs from other starts apart, so that none is resumed by mistake."""
        config = self.request.config
        return TrainSection(
            epochs=config.epochs,
            batch_size=self.batch_size,
            optimizer=config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            warmup_epochs=_WARMUP_EPOCHS,
            ema_decay=config.ema_decay,
            grad_clip=config.grad_clip,
            init=_fingerprint(self.request),
            teacher=self.request.teacher.name,
            distill_weight=config.distill_weight,
            distill_temperature=config.distill_temperature,
            seed=config.seed,
        )


class _Unlabelled:
    """A feed whose labels mean nothing: its targets are marked as mixed, so that no accuracy is shown of them."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.num_pictures = feed.num_pictures
        self.spec = feed.spec

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Mixed]]:
        """Batches of one epoch."""
        for pictures, target in self._feed.batches(epoch):
            yield pictures, Mixed(target.first, target.first.clone(), 1.0)


def _labels_fit(source: Source, num_classes: int) -> bool:
    return source.labels is not None and len(source.class_names) == num_classes


def _with_any_labels(source: Source) -> Source:
    labels = np.zeros(len(source), np.int64)
    return dataclasses.replace(source, labels=labels, class_names=("any",))


def _hold_out(source: Source) -> tuple[Source, Source]:
    """Pictures to learn from, and those held out, drawn the same way every time."""
    num = min(_NUM_HELD_OUT, int(_LARGEST_HELD_OUT_SHARE * len(source)))
    if num < 1:
        raise UsageError(
            f"{source.name}: quantization-aware training needs at least {int(1 / _LARGEST_HELD_OUT_SHARE)} pictures, "
            f"got {len(source)}",
            hint="give it training pictures by --data, or leave the training out",
        )
    order = draw_order(len(source), seed=0)
    return source.take(np.sort(order[num:]), split=source.split), source.take(order[:num], split=source.split)


def _fitting_batch(num_pictures: int) -> int:
    """128 pictures; fewer where an epoch would have less than eight steps."""
    return max(1, min(BATCH_SIZE, num_pictures // 8))


def _distance_on(source: Source, maker: BatchMaker, teacher: nn.Module) -> Callable[[nn.Module], tuple[float, float]]:
    """A function that measures mean KL divergence from a teacher (nats) and agreement with it (0..1) on pictures."""
    batches = list(iterate_batches(source, maker.spec, batch_size=BATCH_SIZE))
    with torch.inference_mode():
        answers = [teacher(_normalized(batch.pictures, maker)).float() for batch in batches]

    @torch.inference_mode()
    def measure(module: nn.Module) -> tuple[float, float]:
        total, num_same, num_seen = 0.0, 0, 0
        for batch, expected in zip(batches, answers, strict=True):
            found = module(_normalized(batch.pictures, maker)).float()
            total += float(distillation_loss(found, expected, 1.0)) * len(found)
            num_same += int((found.argmax(1) == expected.argmax(1)).sum())
            num_seen += len(found)
        return total / num_seen, num_same / num_seen

    return measure


def _normalized(pictures: npt.NDArray[np.uint8], maker: BatchMaker) -> Tensor:
    return maker.normalize(torch.from_numpy(pictures).to(maker.device).permute(0, 3, 1, 2))


def _fingerprint(request: QatRequest) -> str:
    """Of everything that decides the result besides the loop's settings."""
    digest = hashlib.sha256()
    digest.update(msgspec.json.encode((request.config, request.augment, request.spec)))
    digest.update(f"{request.pictures.name} {request.pictures.split} {len(request.pictures)}".encode())
    for name in sorted(request.start.constants):
        tensor = request.start.constants[name]
        digest.update(name.encode() + tensor.values.tobytes() + tensor.params.scale.tobytes())
    for name, grid in sorted(request.start.activations.items()):
        digest.update(name.encode() + grid.scale.tobytes() + grid.zero_point.tobytes())
    for name in sorted(request.teacher.constants):
        digest.update(np.ascontiguousarray(request.teacher.constants[name]).tobytes())
    return f"sha256:{digest.hexdigest()}"
