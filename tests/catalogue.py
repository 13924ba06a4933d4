"""The catalogue as quick tests want it: the heavy variants narrowed, so that none brings more weights than it needs."""

from __future__ import annotations

from edgekit.models.zoo import find_architecture, variant_names

HEAVY = 6_000_000
"""Published parameters from which a variant is run narrowed; its full size is for tests marked slow."""
NARROW = 0.25


def quick_names() -> tuple[str, ...]:
    """Every variant once, as a name that `parse_model_name` reads: itself, or itself at a quarter of the width."""
    return tuple(map(quick_name, variant_names()))


def quick_name(variant: str) -> str:
    """A variant's own name, or its narrow form's."""
    architecture = find_architecture(variant)
    num_params = architecture.variants[variant].num_params
    is_heavy = architecture.takes_width and num_params is not None and num_params > HEAVY
    return f"{variant}_w{NARROW:g}" if is_heavy else variant
