"""Operator codes and the lowest operator version that a runtime must know to run them.

An old runtime refuses a file whose operator versions it does not know, so the version is the lowest that tells the
truth, as TensorFlow's `lite/tools/versioning/op_version.cc` computes it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from ai_edge_litert.schema_py_generated import BuiltinOperator


class Op(enum.IntEnum):
    """The builtin operators that the lowering uses."""

    ADD = BuiltinOperator.ADD
    AVERAGE_POOL_2D = BuiltinOperator.AVERAGE_POOL_2D
    BATCH_MATMUL = BuiltinOperator.BATCH_MATMUL
    CAST = BuiltinOperator.CAST
    CONCATENATION = BuiltinOperator.CONCATENATION
    CONV_2D = BuiltinOperator.CONV_2D
    DEPTHWISE_CONV_2D = BuiltinOperator.DEPTHWISE_CONV_2D
    DEQUANTIZE = BuiltinOperator.DEQUANTIZE
    FULLY_CONNECTED = BuiltinOperator.FULLY_CONNECTED
    GATHER = BuiltinOperator.GATHER
    GELU = BuiltinOperator.GELU
    HARD_SWISH = BuiltinOperator.HARD_SWISH
    LOCAL_RESPONSE_NORMALIZATION = BuiltinOperator.LOCAL_RESPONSE_NORMALIZATION
    LOGISTIC = BuiltinOperator.LOGISTIC
    MAXIMUM = BuiltinOperator.MAXIMUM
    MAX_POOL_2D = BuiltinOperator.MAX_POOL_2D
    MEAN = BuiltinOperator.MEAN
    MINIMUM = BuiltinOperator.MINIMUM
    MUL = BuiltinOperator.MUL
    PAD = BuiltinOperator.PAD
    PADV2 = BuiltinOperator.PADV2
    QUANTIZE = BuiltinOperator.QUANTIZE
    RELU = BuiltinOperator.RELU
    RELU6 = BuiltinOperator.RELU6
    RELU_N1_TO_1 = BuiltinOperator.RELU_N1_TO_1
    RESHAPE = BuiltinOperator.RESHAPE
    RSQRT = BuiltinOperator.RSQRT
    SLICE = BuiltinOperator.SLICE
    SOFTMAX = BuiltinOperator.SOFTMAX
    SPLIT = BuiltinOperator.SPLIT
    STRIDED_SLICE = BuiltinOperator.STRIDED_SLICE
    SUB = BuiltinOperator.SUB
    TRANSPOSE = BuiltinOperator.TRANSPOSE


GROUPED_CONV_VERSION = 6
DILATED_DEPTHWISE_VERSION = 2
MUL_RESCALE_VERSION = 3
"""MUL whose scale_1 * scale_2 / scale_out reaches 1."""

TOKENS_VERSION = 5
"""FULLY_CONNECTED on float tensors that keeps all dimensions but the last."""

_INT8_VERSIONS: Mapping[Op, int] = {
    Op.CONV_2D: 3,
    Op.DEPTHWISE_CONV_2D: 3,
    Op.FULLY_CONNECTED: 4,
    Op.HARD_SWISH: 1,
    Op.QUANTIZE: 1,
    Op.RELU_N1_TO_1: 1,
    Op.RESHAPE: 1,
}
"""int8 versions that differ from 2, the version in which most operators learnt int8."""

_INT4_VERSIONS: Mapping[Op, int] = {Op.CONV_2D: 7, Op.FULLY_CONNECTED: 10}
"""int8 activations and INT4 weights, which TensorFlow 2.11 learnt. A grouped convolution, else 6, is among them."""


_DYNAMIC_VERSIONS: Mapping[Op, int] = {Op.CONV_2D: 5, Op.DEPTHWISE_CONV_2D: 6, Op.FULLY_CONNECTED: 12}
"""Float activations and int8 weights with a scale per channel."""


def operator_version(op: Op, *, is_int8: bool) -> int:
    """Version of an operator on 4-D tensors of one element type, without special options.

    >>> operator_version(Op.CONV_2D, is_int8=True), operator_version(Op.CONV_2D, is_int8=False)
    (3, 1)
    """
    return _INT8_VERSIONS.get(op, 2) if is_int8 else 1


def int4_version(op: Op) -> int:
    """Version of an operator on int8 activations with INT4 weights.

    >>> int4_version(Op.CONV_2D), int4_version(Op.FULLY_CONNECTED)
    (7, 10)
    """
    return _INT4_VERSIONS[op]


def dynamic_version(op: Op) -> int:
    """Version of an operator on float activations with per_channel int8 weights.

    >>> dynamic_version(Op.CONV_2D), dynamic_version(Op.FULLY_CONNECTED)
    (5, 12)
    """
    return _DYNAMIC_VERSIONS[op]


def high_rank_version(op: Op, rank: int) -> int:
    """Version of TRANSPOSE or SLICE on tensors of more than four dimensions; 0, the usual one, on others.

    >>> high_rank_version(Op.TRANSPOSE, 4), high_rank_version(Op.TRANSPOSE, 5), high_rank_version(Op.SLICE, 5)
    (0, 4, 5)
    """
    if rank <= 4:
        return 0
    if op == Op.SLICE:
        return 5
    return 4 if rank == 5 else 6
