"""Scheme ids: `<static|dynamic|weight_only>_w<i|fp><bits>_a<i|fp><bits>`.

The bits of a scheme are *grid* bits: levels used; "mixed" in place of the weights' gives each layer its own. Storage is
int8 whatever the grid, and so is what the kernel multiplies.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from edgekit.core.errors import UsageError

GRAMMAR = "<static|dynamic|weight_only>_w<i|fp><bits>_a<i|fp><bits>"
MIXED = "mixed"
"""Stands for the weights' bits where each layer has its own."""
WEIGHT_BITS = range(4, 9)
"""Weight grids that static quantization makes; all are stored in int8."""

NumberKind = Literal["i", "fp"]

_PATTERN = re.compile(r"(static|dynamic|weight_only)_w(i|fp)(\d{1,2}|mixed)_a(i|fp)(\d{1,2})")


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """What is quantized, and to how many bits.

    Args:
        mode: "static" (grids of activations from calibration pictures), "dynamic" (found at run time), or
            "weight_only" (activations stay float).
        weight_kind: "i" for integers, "fp" for floating point.
        weight_bits: Grid bits of the weights, the most that any layer has.
        is_mixed: Whether each layer has bits of its own.
        activation_kind: As `weight_kind`, of the activations.
        activation_bits: Grid bits of the activations.
    """

    mode: Literal["static", "dynamic", "weight_only"]
    weight_kind: NumberKind = "i"
    weight_bits: int = 8
    is_mixed: bool = False
    activation_kind: NumberKind = "i"
    activation_bits: int = 8

    @property
    def id(self) -> str:
        """The scheme in the grammar.

        >>> Scheme(mode="static", weight_bits=6).id
        'static_wi6_ai8'
        """
        weights = f"w{self.weight_kind}{MIXED if self.is_mixed else self.weight_bits}"
        return f"{self.mode}_{weights}_a{self.activation_kind}{self.activation_bits}"

    @property
    def is_supported(self) -> bool:
        """Whether `quantize_static` or `quantize_dynamic` makes it; mixed bits are static."""
        return (
            (self.mode == "static" or (self.mode == "dynamic" and not self.is_mixed))
            and self.weight_kind == "i"
            and self.weight_bits in WEIGHT_BITS
            and self.activation_kind == "i"
            and self.activation_bits == 8
        )


def parse_scheme(text: str) -> Scheme:
    """Read a scheme id.

    >>> parse_scheme("static_wi6_ai8").weight_bits
    6

    Raises:
        UsageError: The text is not in the grammar.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise UsageError(
            f"scheme {text!r} is not of the form {GRAMMAR}", hint="for example static_wi8_ai8 or static_wi6_ai8"
        )
    mode, weight_kind, weight_bits, activation_kind, activation_bits = match.groups()
    fields = {
        "mode": mode,
        "weight_kind": weight_kind,
        "weight_bits": 8 if weight_bits == MIXED else int(weight_bits),
        "is_mixed": weight_bits == MIXED,
        "activation_kind": activation_kind,
        "activation_bits": int(activation_bits),
    }
    return msgspec.convert(fields, Scheme)


def scheme_from_bits(bits: float | str) -> Scheme:
    """The scheme that `--bits` stands for: static, int8 activations, weights on a grid of that many bits, or "mixed".

    >>> scheme_from_bits("8").id
    'static_wi8_ai8'

    Raises:
        UsageError: Neither "mixed" nor a whole number of bits from 4 to 8.
    """
    if bits == MIXED:
        return Scheme(mode="static", is_mixed=True)
    wanted = f"--bits takes a whole number from {WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]}, got {bits!r}"
    hint = "8 is the safe choice; fewer bits make the packed file smaller, not the inference faster"
    try:
        number = float(bits)
    except ValueError:
        raise UsageError(wanted, hint=hint) from None
    if number not in WEIGHT_BITS:
        raise UsageError(wanted, hint=hint)
    return Scheme(mode="static", weight_bits=int(number))


def require_supported(scheme: Scheme) -> None:
    """Refuse a well-formed scheme that nothing here makes yet.

    Raises:
        UsageError: Not integer weights of 4 to 8 bits with int8 activations.
    """
    if scheme.is_supported:
        return
    bits = f"wi<{WEIGHT_BITS[0]}..{WEIGHT_BITS[-1]}>_ai8"
    raise UsageError(
        f"scheme {scheme.id} is not implemented: expected static_{bits} or dynamic_{bits}",
        hint="use static_wi8_ai8, or dynamic_wi8_ai8 for transformers",
    )
