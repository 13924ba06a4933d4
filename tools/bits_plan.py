"""What `bench_bits.py` measures: models, settings and the bars of each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

KB_BYTES = 1000
"""Bytes of the recipe's `budget_kb`."""

YARDSTICK_MODELS = ("efficientnet_lite0", "mobilenet_v2")
"""Models that are compared with NNCodec."""


class ModelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One model and its pictures.

    Args:
        name: In keys and on the command line.
        model: What a recipe calls it; a run folder below `--runs`, or where an import goes, is filled in.
        data: Dataset, whose calibration split is calibrated on and whose test split is measured on.
        importer: Format of `edgekit import`; empty for a model that needs none.
        source: File to import, below a folder of `$EDGEKIT_DATA`.
        in_runs: Whether `model` is a folder below `--runs`.
    """

    name: str
    model: str = ""
    data: str
    importer: str = ""
    source: str = ""
    in_runs: bool = False

    @property
    def is_sample(self) -> bool:
        """Whether only a few hundred pictures are at hand, so that agreement says more than accuracy."""
        return self.data == "imagenet"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One way to compress, and what is asked of it.

    Args:
        name: In keys and on the command line.
        overrides: Of the recipe.
        budget_share: Budget as share of the W8A8 `.ekz`; None for none.
        small_only: Not for the ImageNet models.
        models: Only for these; None for all.
        least_agreement: On ImageNet models, in percent; None for no bar.
        most_drop: On full test sets, in points of top-1; None for no bar.
        drops_everywhere: Whether `most_drop` holds for ImageNet models, too.
        most_ratio: Of `.ekz` bytes to those of W8A8; None for no bar.
    """

    name: str
    overrides: tuple[str, ...]
    budget_share: float | None = None
    small_only: bool = False
    models: tuple[str, ...] | None = None
    least_agreement: float | None = None
    most_drop: float | None = None
    drops_everywhere: bool = False
    most_ratio: float | None = None

    def suits(self, model: ModelPlan) -> bool:
        """Whether the setting is measured on a model."""
        return not (self.small_only and model.is_sample) and (self.models is None or model.name in self.models)

    def recipe_overrides(self, base_bytes: int | None) -> tuple[str, ...] | None:
        """Overrides with the budget in them; None when it hangs on a W8A8 file that there is not."""
        if self.budget_share is None:
            return self.overrides
        if base_bytes is None:
            return None
        return (*self.overrides, f"quantize.budget_kb={self.budget_share * base_bytes / KB_BYTES:.3f}")


def _run(name: str) -> ModelPlan:
    return ModelPlan(name=f"{name}_cifar10", model=f"{name}-cifar10", data="cifar10_jpeg", in_runs=True)


_CORAL = "mobilenet-tflite"
MODELS: Mapping[str, ModelPlan] = {
    plan.name: plan
    for plan in (
        *(ModelPlan(name=name, model=name, data="fashion_mnist") for name in ("mobilenet", "squeezenet", "shufflenet")),
        *(_run(name) for name in ("mobilenet", "squeezenet", "shufflenet")),
        ModelPlan(
            name="mobilenet_v2",
            data="imagenet",
            importer=_CORAL,
            source="models/tf2_mobilenet_v2_1.0_224_ptq.tflite",
        ),
        ModelPlan(name="efficientnet_lite0", model="efficientnet_lite0", data="imagenet"),
        ModelPlan(
            name="squeezenet_dc", data="imagenet", importer="squeezenet-dc", source="models/compressed_SqueezeNet.net"
        ),
        ModelPlan(
            name="mobilenet_v2_qat", data="imagenet", importer=_CORAL, source="models/mobilenet_v2_1.0_224_quant.tflite"
        ),
    )
}
"""`mobilenet_v2` was rounded per channel after training; `mobilenet_v2_qat` was trained with one scale per tensor."""

_NAIVE = ('quantize.rounding="nearest"', "quantize.equalize=false", "quantize.wide_layers=[]")
"""Each weight to its nearest level, on a grid of the same bits everywhere."""
_MIXED = "quantize.scheme=static_wimixed_ai8"


def _mixed(percent: int) -> Setting:
    """A point of the curve of bytes and agreement."""
    name = f"mixed_{percent}"
    return Setting(name=name, overrides=(_MIXED,), budget_share=percent / 100, models=YARDSTICK_MODELS)


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(name="w8a8", overrides=("quantize.scheme=static_wi8_ai8",), least_agreement=95.0, most_drop=0.2),
        Setting(
            name="w6a8",
            overrides=("quantize.scheme=static_wi6_ai8",),
            least_agreement=90.0,
            most_drop=0.5,
            most_ratio=0.70,
        ),
        Setting(name="w4a8", overrides=("quantize.scheme=static_wi4_ai8",), least_agreement=75.0, most_drop=2.0),
        Setting(
            name="mixed",
            overrides=(_MIXED,),
            budget_share=0.5,
            most_drop=0.7,
            drops_everywhere=True,
            most_ratio=0.5,
        ),
        Setting(
            name="w4a8_qat",
            overrides=("quantize.scheme=static_wi4_ai8", "qat.epochs=1"),
            small_only=True,
            most_drop=0.5,
        ),
        Setting(name="w7a8", overrides=("quantize.scheme=static_wi7_ai8",), models=YARDSTICK_MODELS),
        Setting(name="w5a8", overrides=("quantize.scheme=static_wi5_ai8",), models=YARDSTICK_MODELS),
        *(_mixed(percent) for percent in (80, 70, 60, 40)),
        Setting(name="w6a8_naive", overrides=("quantize.scheme=static_wi6_ai8", *_NAIVE)),
        Setting(name="w4a8_naive", overrides=("quantize.scheme=static_wi4_ai8", *_NAIVE)),
    )
}
"""In the order in which they are measured: budgets are shares of what `w8a8` took."""
