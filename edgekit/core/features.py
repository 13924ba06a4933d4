"""What was measured of a feature extractor: how near its features are to float's, and what they find."""

from __future__ import annotations

import msgspec


class PrecisionAtK(msgspec.Struct, frozen=True, kw_only=True):
    """Precision at k, leave-one-out: each picture asks for its k nearest among the others.

    Args:
        k: Pictures found.
        share: Mean share of them that are of the class of the picture that asked, 0..1.
        ci95: 95 % Wilson interval of it, counting each picture that asks as one trial.
        n: Pictures that asked.
    """

    k: int
    share: float
    ci95: tuple[float, float]
    n: int


class Closeness(msgspec.Struct, frozen=True, kw_only=True):
    """Cosine between the features of a quantized file and those of float, on the same pictures.

    Args:
        mean: Over pictures.
        least: Of all pictures.
        n: Pictures.
    """

    mean: float
    least: float
    n: int


class FeaturesReport(msgspec.Struct, frozen=True, kw_only=True):
    """The section of a report on features.

    Args:
        layer: Layer of the classifier that was cut away, with all that follows it.
        num_features: Numbers that describe a picture.
        float_tflite_bytes: Size of the float TFLite file.
        float_onnx_error: Largest difference of a feature between float ONNX and torch; None without a torch model.
        float_tflite_error: The same between float TFLite and float ONNX.
        largest_feature: Largest magnitude of a float feature, for scale.
        onnx: Quantized ONNX beside float.
        tflite: Quantized TFLite beside float.
        tflite_onnx_max_steps: Largest difference between the two quantized files' features, in steps of their grid.
        tflite_onnx_mean_steps: Mean of it.
        precision: "float", "onnx", "tflite" -> precision at each k; empty when the pictures have no labels.
    """

    layer: str
    num_features: int
    float_tflite_bytes: int
    float_onnx_error: float | None
    float_tflite_error: float
    largest_feature: float
    onnx: Closeness
    tflite: Closeness
    tflite_onnx_max_steps: int
    tflite_onnx_mean_steps: float
    precision: dict[str, tuple[PrecisionAtK, ...]]
