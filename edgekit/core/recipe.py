"""Recipes: everything that decides what a run makes, as types. No Python paths in them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
_NotNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
_Bits: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=8)]
_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_PositiveShare: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]
_ShareBelowOne: TypeAlias = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the recipe's sections."""


class ModelSection(_Section, frozen=True):
    """Which network.

    Args:
        name: Catalogue name or alias ("mobilenet_v2", "shufflenet_v2_x0_5").
        width: Width multiplier; None for the variant's own.
        input_size: Square input in pixels; None for the dataset's own size.
        dropout: Before the classifier.
        untrained: Compress random weights (for tests and benchmarks).
        squeeze_excite: A squeeze-and-excitation in every residual block: "resnet18" with it is "se_resnet18".
    """

    name: str
    width: float | None = None
    input_size: int | None = None
    dropout: _ShareBelowOne = 0.0
    untrained: bool = False
    squeeze_excite: bool = False


class DataSection(_Section, frozen=True):
    """Which pictures.

    Args:
        name: Dataset name or a folder of class folders.
    """

    name: str


class AugmentSection(_Section, frozen=True):
    """Random changes to training pictures, drawn per picture, applied in batches on the training device.

    Args:
        crop_padding: Pixels of reflected padding before a random crop back to size.
        flip: Mirror left-right with probability 0.5.
        erase: Probability of a random erased rectangle (Zhong et al. 2020).
        rand_ops: Number of RandAugment-style operations per picture (Cubuk et al. 2020); 0 for none.
        rand_magnitude: Their strength, 0..1.
        mixup: Beta parameter of mixup (Zhang et al. 2018); 0 for none.
        cutmix: Beta parameter of cutmix (Yun et al. 2019); 0 for none.
    """

    crop_padding: _Natural = 0
    flip: bool = False
    erase: _Share = 0.0
    rand_ops: _Natural = 0
    rand_magnitude: _Share = 0.3
    mixup: _NotNegative = 0.0
    cutmix: _NotNegative = 0.0


class TrainSection(_Section, frozen=True):
    """How it is trained.

    Args:
        epochs: Passes over the training pictures.
        batch_size: Pictures per step.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw"; None for what the network needs: "adamw" for transformers.
        learning_rate: Peak rate, reached after warm-up, then cosine to zero. None: 0.1 with BatchNorm, 0.01 without,
            0.001 for "adamw".
        weight_decay: Not applied to biases and norms. None: 5e-4, and 0.05 for transformers.
        warmup_epochs: Linear warm-up.
        label_smoothing: Share of the target spread over all classes.
        ema_decay: Exponential moving average of the weights; 0 for none.
        grad_clip: Largest gradient norm; 0 for none. None: 0 with BatchNorm or a learning rate of one's own, else 1.
        init: Run folder, checkpoint or alias to start from; None for random weights. Other classes: a new classifier.
        teacher: Run folder, checkpoint or alias to distil from; None for none.
        distill_weight: Share of the distillation loss (Hinton et al. 2015).
        distill_temperature: Softmax temperature of it.
        adversarial: Learn from attacked pictures instead of the pictures themselves: "fgsm" (one step from a random
            start, Wong et al. 2020) or "pgd" (several, Madry et al. 2018); None for none.
        adversarial_epsilon: Largest change of a value by the attack, as a share of the range 0..255.
        adversarial_steps: Steps of "pgd".
        seed: Seed of weights, order and augmentation.
        precision: "float32", or "bf16" where the device has it.
    """

    epochs: _Count = 20
    batch_size: _Count = 128
    optimizer: Literal["sgd", "adamw"] | None = None
    learning_rate: _Positive | None = None
    weight_decay: _NotNegative | None = None
    warmup_epochs: _NotNegative = 1.0
    label_smoothing: _ShareBelowOne = 0.0
    ema_decay: _ShareBelowOne = 0.0
    grad_clip: _NotNegative | None = None
    init: str | None = None
    teacher: str | None = None
    distill_weight: _Share = 0.5
    distill_temperature: _Positive = 4.0
    adversarial: Literal["fgsm", "pgd"] | None = None
    adversarial_epsilon: _PositiveShare = 8 / 255
    adversarial_steps: _Count = 7
    seed: _Natural = 0
    precision: Literal["float32", "bf16"] = "float32"


class FinetuneSection(_Section, frozen=True):
    """How the weights that stay are trained after pruning and sharing; the rest is as `[train]` and `[augment]` say.

    Args:
        teacher: Run folder, checkpoint or alias to distil from; None for the model as it was.
        distill_weight: Share of the loss that compares with the teacher (Hinton et al. 2015); 0 for none.
        distill_temperature: Softmax temperature of it.
        batch_size: Pictures per step; None for that of `[train]`.
        weight_decay: None for that of `[train]`; shared weights have none.
        ema_decay: Exponential moving average of the weights; None for that of `[train]`.
        crop_padding: Pixels of padding before a random crop; None for those of `[augment]`.
        mixup: Beta parameter of mixup; None for that of `[augment]`.
    """

    teacher: str | None = None
    distill_weight: _Share = 0.5
    distill_temperature: _Positive = 4.0
    batch_size: _Count | None = None
    weight_decay: _NotNegative | None = None
    ema_decay: _ShareBelowOne | None = None
    crop_padding: _Natural | None = None
    mixup: _NotNegative | None = None


class PruneSection(_Section, frozen=True):
    """What is taken out: whole channels (faster everywhere) and single weights (smaller to ship).

    Args:
        channels: Share of channels removed, the pruning ratio; 0 for none.
        importance: How much a channel matters: "magnitude" of its weights, "taylor" (Molchanov et al. 2019), or
            "bn_scale" (Liu et al. 2017).
        round_to: Keep multiples of this many channels.
        ignored_layers: Layers whose output channels stay.
        sparsity: Share of zeros among the weights; 0 for none.
        method: "global" (one magnitude threshold), "layer_wise" (equal marginal loss, from a sensitivity scan), or
            "2:4" (two zeros in every four, whatever `sparsity`).
        dense_layers: Layers that get no zeros; None for the first convolution and the depthwise ones.
        ramp: Share of the fine-tuning over which zeros are added, by a cubic schedule (Zhu and Gupta 2017).
        epochs: Fine-tuning after channels went, and again while zeros come.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw", for the fine-tuning.
        learning_rate: Peak rate of it; cosine to zero.
    """

    channels: _ShareBelowOne = 0.0
    importance: Literal["magnitude", "taylor", "bn_scale"] = "magnitude"
    round_to: _Count = 8
    ignored_layers: tuple[str, ...] = ()
    sparsity: _ShareBelowOne = 0.0
    method: Literal["global", "layer_wise", "2:4"] = "global"
    dense_layers: tuple[str, ...] | None = None
    ramp: _Share = 0.5
    epochs: _Natural = 3
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: _Positive = 0.02

    @property
    def makes_zeros(self) -> bool:
        """Whether single weights are pruned."""
        return self.sparsity > 0 or self.method == "2:4"


class ShareSection(_Section, frozen=True):
    """Weight sharing: a layer's weights take few values (Han et al. 2016, section 3).

    Args:
        conv_bits: Convolutions take at most 2**conv_bits values; 0 leaves them.
        fc_bits: The same of fully connected layers.
        num_groups: Groups of output channels, each with values of its own.
        method: "optimal" (dynamic programming) or "lloyd".
        start: Where Lloyd's iterations start: "linear", "density" or "random".
        weighting: What a weight's error counts: all the same ("none"), or by its mean squared gradient.
        unshared_layers: Layers that are not shared; None for the depthwise ones.
        assignments: While values are trained, weights keep theirs ("fixed") or choose anew every epoch ("refreshed").
        epochs: Training of the values.
        learning_rate: Peak rate of it (AdamW, no weight decay).
    """

    conv_bits: _Bits = 0
    fc_bits: _Bits = 0
    num_groups: _Count = 1
    method: Literal["optimal", "lloyd"] = "optimal"
    start: Literal["linear", "density", "random"] = "linear"
    weighting: Literal["none", "squared_gradient"] = "none"
    unshared_layers: tuple[str, ...] | None = None
    assignments: Literal["fixed", "refreshed"] = "fixed"
    epochs: _Natural = 3
    learning_rate: _Positive = 1e-4

    @property
    def is_asked(self) -> bool:
        """Whether any layer is shared."""
        return self.conv_bits > 0 or self.fc_bits > 0


class CodeSection(_Section, frozen=True):
    """How the integers are coded for shipping.

    Args:
        method: "ekz", or "huffman" to write the classic coding of Deep Compression beside it (Han et al. 2016,
            sections 2 and 4).
        gap_bits: Bits of a relative index in the classic coding, 4 or 5.
    """

    method: Literal["ekz", "huffman"] = "ekz"
    gap_bits: Literal[4, 5] = 5


class QuantizeSection(_Section, frozen=True):
    """How it is quantized.

    Args:
        scheme: Scheme id, `<static|dynamic|weight_only>_w<i|fp><bits>_a<i|fp><bits>`.
        num_calibration: Calibration pictures.
        ranges: How activation ranges are chosen from their histograms.
        percentile: Share kept by "percentile", in percent.
        bias_correction: Correct the mean shift of weight rounding (Nagel et al. 2019, section 4.2).
        seed: Which calibration pictures are drawn.
        float_io: Float input and output in the TFLite file, int8 inside.
        reduce_range: 7-bit weights, for x86 without VNNI (the integer kernels there saturate).
        rounding: Weights to the "nearest" level; or with the errors of some made good by others ("gptq"), or learned
            ("adaround"), layer by layer; or "auto": nearest at 8 bits, below it the best for each layer.
        wide_layers: Layers that keep 8 bits when fewer are asked for; None for depthwise ones, the first and the last.
        equalize: Balance channels between layers first; with a scale per channel it seldom pays (docs/results.md).
        rate_weight: Below 8 bits, what a bit of a packed weight may cost, as a share of the mean error of rounding a
            weight to the nearest level; 0 for the least error whatever the size; None for 1.8 where all
            layers are asked to have 5 bits or more, below that 1.4, and 0.5 for networks that were pruned.
        scale_bits: Below 8 bits, significant bits of the weights' scales: each is paid for in the packed file.
        budget_kb: Most kB (1,000 bytes) of the .ekz with mixed bits; None for as small as `verify.max_drop` allows.
        pareto: With mixed bits, sizes that are made and measured for the plot of size against accuracy; 0 for none.
        engine: Who quantizes: "edgekit", or "nncf" (8 bits, an extra).
        compute: Weight tensors in the TFLite file: "int8", or "int4" for layers of at most 4 bits.
    """

    scheme: str = "static_wi8_ai8"
    num_calibration: _Count = 256
    ranges: Literal["minmax", "percentile", "mse"] = "mse"
    percentile: float = 99.99
    bias_correction: bool = True
    seed: _Natural = 0
    float_io: bool = False
    reduce_range: bool = False
    rounding: Literal["auto", "nearest", "gptq", "adaround"] = "auto"
    wide_layers: tuple[str, ...] | None = None
    equalize: bool = False
    rate_weight: _NotNegative | None = None
    scale_bits: Annotated[int, msgspec.Meta(ge=2, le=24)] = 4
    budget_kb: _Positive | None = None
    pareto: _Natural = 0
    engine: Literal["edgekit", "nncf"] = "edgekit"
    compute: Literal["int8", "int4"] = "int8"


class QatSection(_Section, frozen=True):
    """Quantization-aware training, from the integers that quantization without training gives.

    Args:
        epochs: Passes over the training pictures; 0 for none.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw".
        learning_rate: Peak rate (of a weight with AdamW: as a share of its channel's largest), after a tenth of the
            first epoch; cosine to zero.
        batch_size: Pictures per step; None for 128, and fewer where there are few pictures.
        weight_decay: Not applied to biases and steps.
        distill_weight: Share of the loss that compares with the float network (Hinton et al. 2015); 1 needs no labels.
        distill_temperature: Softmax temperature of it.
        start: Weights start at their "float" values, within what rounds to the same integers, or on the "grid".
        swinging_layers: Which are damped and frozen: "depthwise" ones of at most 5 bits, or "all" of at most 4, too.
        damping: Weight of the loss that draws their weights to their levels (Nagel et al. 2022); 0 for none.
        freeze_threshold: Swings per step above which a weight is frozen, at the end; 0 for never.
        keep_zeros: Weights that begin at zero stay zero, so that the packed file stays small; None for networks that
            were pruned, and where there is a budget in bytes.
        ema_decay: Exponential moving average of the weights; 0 for none.
        grad_clip: Largest gradient norm; 0 for none.
        seed: Of order and augmentation.
    """

    epochs: _Natural = 0
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: _Positive = 1e-3
    batch_size: _Count | None = None
    weight_decay: _NotNegative = 0.0
    distill_weight: _Share = 1.0
    distill_temperature: _Positive = 1.0
    start: Literal["float", "grid"] = "float"
    swinging_layers: Literal["depthwise", "all"] = "depthwise"
    damping: _NotNegative = 0.0
    freeze_threshold: _NotNegative = 0.02
    keep_zeros: bool | None = None
    ema_decay: _ShareBelowOne = 0.0
    grad_clip: _NotNegative = 0.0
    seed: _Natural = 0


class VerifySection(_Section, frozen=True):
    """Which bars the exported files must meet.

    Args:
        max_drop: Largest loss of top-1 accuracy against float, in points.
        num_pictures: Pictures compared; None for all test pictures at hand.
        max_float_error: Largest logit difference between torch and float ONNX; in proportion where logits exceed 32.
    """

    max_drop: float = 1.0
    num_pictures: _Count | None = None
    max_float_error: _NotNegative = 1e-4


class Recipe(_Section, frozen=True):
    """One run, from data to verified files."""

    model: ModelSection
    data: DataSection
    augment: AugmentSection = msgspec.field(default_factory=AugmentSection)
    train: TrainSection = msgspec.field(default_factory=TrainSection)
    finetune: FinetuneSection = msgspec.field(default_factory=FinetuneSection)
    prune: PruneSection = msgspec.field(default_factory=PruneSection)
    share: ShareSection = msgspec.field(default_factory=ShareSection)
    quantize: QuantizeSection = msgspec.field(default_factory=QuantizeSection)
    qat: QatSection = msgspec.field(default_factory=QatSection)
    code: CodeSection = msgspec.field(default_factory=CodeSection)
    verify: VerifySection = msgspec.field(default_factory=VerifySection)
