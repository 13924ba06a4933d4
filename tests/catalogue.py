"""The catalogue as quick tests want it: the heavy variants narrowed, so that none brings more weights than it needs."""

from __future__ import annotations

from edgekit.models.counting import measure
from edgekit.models.zoo import find_architecture, parse_model_name, variant_names

HEAVY = 6_000_000
"""Parameters from which a variant is run narrowed; its full size is for tests marked slow."""
NARROW = 0.25


def quick_names() -> tuple[str, ...]:
    """Every variant once, as a name that `parse_model_name` reads: itself, or itself at a quarter of the width."""
    return tuple(map(quick_name, variant_names()))


def quick_name(variant: str) -> str:
    """A variant's own name, or its narrow form's."""
    architecture = find_architecture(variant)
    is_heavy = architecture.takes_width and measure(parse_model_name(variant))[0] > HEAVY
    return f"{variant}_w{NARROW:g}" if is_heavy else variant
