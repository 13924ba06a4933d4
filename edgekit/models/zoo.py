"""From a name to a network: the catalogue of architectures, its variants, and the aliases with embedded weights."""

from __future__ import annotations

import re

import msgspec
from torch import nn

from edgekit.core.catalogue import Catalogue
from edgekit.core.errors import UnknownNameError, UsageError
from edgekit.models.architecture import Architecture, BuildOptions

ARCHITECTURES: Catalogue[Architecture] = Catalogue(
    "edgekit.models.architectures", "ARCHITECTURE", Architecture, "architecture"
)
MIN_INPUT_SIZE = 24
"""Pixels; the smallest input that leaves every architecture a map."""
MAX_DEPTH = 48
"""Blocks; half as many again as the deepest network of the Vision Transformer's paper has."""
_SIZE_SUFFIX = re.compile(r"(?:_w(\d+(?:\.\d+)?))?(?:_d(\d+))?$")
SE_PREFIX = "se_"
"""Before the name of a residual network with squeeze-and-excitation."""


def variant_names() -> tuple[str, ...]:
    """Every variant of every architecture. Imports all of them."""
    return tuple(variant for name in ARCHITECTURES.names for variant in ARCHITECTURES.load(name).variants)


def find_architecture(variant: str) -> Architecture:
    """The architecture that a variant name (without width suffix) belongs to.

    Raises:
        UnknownNameError: No architecture has such a variant; the nearest variant is the hint.
    """
    # Longest file name that begins the variant's: the folder is the catalogue, and only that file is imported.
    for name in sorted(ARCHITECTURES.names, key=len, reverse=True):
        if variant.startswith(name):
            architecture = ARCHITECTURES.load(name)
            if variant in architecture.variants:
                return architecture
    raise UnknownNameError("architecture", variant, variant_names())


def parse_model_name(name: str) -> BuildOptions:
    """Variant, width and depth of a model name such as "mobilenet_v2_w0.35" or "vit_ti_16_d6".

    The other sizes are those that the variant's published figures are for.

    "se_" before the name of a residual network gives it squeeze-and-excitation.

    Raises:
        UnknownNameError: No such variant.
        UsageError: A width or depth for an architecture that has none, one that is not positive, or "se_" before an
            architecture without residual blocks.
    """
    match = _SIZE_SUFFIX.search(name)
    width, depth = match.groups() if match else (None, None)
    variant = name[: match.start()] if match else name
    variant, is_excited = _split_prefix(variant)
    architecture = find_architecture(variant)
    published = architecture.variants[variant]
    options = BuildOptions(
        variant=variant,
        width=float(width) if width else None,
        depth=int(depth) if depth else None,
        num_classes=published.num_classes,
        in_channels=published.in_channels,
        input_size=published.input_size,
        squeeze_excite=is_excited,
    )
    check_options(options, architecture)
    return options


def _split_prefix(variant: str) -> tuple[str, bool]:
    """The variant in the catalogue, and whether "se_" was before it: "se_resnet18" is there by that name."""
    bare = variant.removeprefix(SE_PREFIX)
    if bare == variant:
        return variant, False
    try:
        architecture = find_architecture(bare)
    except UnknownNameError:
        return variant, False  # the error is then about the name as it was given
    return (variant, False) if architecture.name in _excited_families() else (bare, True)


def _excited_families() -> tuple[str, ...]:
    """Families whose names have the prefix as they are."""
    return tuple(name.removeprefix(SE_PREFIX) for name in ARCHITECTURES.names if name.startswith(SE_PREFIX))


def with_squeeze_excite(options: BuildOptions) -> BuildOptions:
    """The options of the same network with squeeze-and-excitation, by the name that it has in the catalogue.

    Raises:
        UsageError: No residual blocks, or blocks that have it already.
    """
    architecture = find_architecture(options.variant)
    if architecture.name.startswith(SE_PREFIX):
        return options
    if architecture.name in _excited_families():
        return msgspec.structs.replace(options, variant=f"{SE_PREFIX}{options.variant}", squeeze_excite=False)
    options = msgspec.structs.replace(options, squeeze_excite=True)
    check_options(options, architecture)
    return options


def check_options(options: BuildOptions, architecture: Architecture) -> None:
    """Raise `UsageError` for sizes that make no network."""
    if options.width is not None and not architecture.takes_width:
        raise UsageError(
            f"{architecture.title} has no free width, got {options.width}",
            hint=f"choose a variant: {', '.join(architecture.variants)}",
        )
    if options.width is not None and not 0 < options.width <= 4:
        raise UsageError(f"width {options.width} is out of range, expected more than 0 and at most 4")
    if options.depth is not None and not architecture.takes_depth:
        raise UsageError(
            f"{architecture.title} has no free depth, got {options.depth}",
            hint=f"choose a variant: {', '.join(architecture.variants)}",
        )
    if options.depth is not None and not 1 <= options.depth <= MAX_DEPTH:
        raise UsageError(f"depth {options.depth} is out of range, expected 1 to {MAX_DEPTH} blocks")
    if not MIN_INPUT_SIZE <= options.input_size <= architecture.max_input_size:
        raise UsageError(
            f"{architecture.title}: input size {options.input_size} is out of range, "
            f"expected {MIN_INPUT_SIZE} to {architecture.max_input_size} pixels"
        )
    own = BuildOptions(variant=options.variant)
    for convention in ("padding", "activation", "batch_norm"):
        if not architecture.takes_conventions and getattr(options, convention) != getattr(own, convention):
            raise UsageError(f"{architecture.title} has no free {convention}, got {getattr(options, convention)!r}")
    if options.squeeze_excite and not architecture.takes_squeeze_excite:
        takers = [name for name in ARCHITECTURES.names if ARCHITECTURES.load(name).takes_squeeze_excite]
        raise UsageError(
            f"{architecture.title} takes no squeeze-and-excitation: no residual blocks of convolutions, or it is there",
            hint=f"architectures that take it: {', '.join(takers)}",
        )
    if options.num_classes < 2:
        raise UsageError(f"a classifier needs at least 2 classes, got {options.num_classes}")


def model_name(options: BuildOptions) -> str:
    """The name that `parse_model_name` reads: variant, and width and depth when they are not the variant's own."""
    width = "" if options.width is None else f"_w{options.width:g}"
    depth = "" if options.depth is None else f"_d{options.depth}"
    name = f"{options.variant}{width}{depth}"
    return f"{SE_PREFIX}{name}" if options.squeeze_excite else name


def build_model(options: BuildOptions) -> nn.Module:
    """Make a network with random weights.

    Raises:
        UnknownNameError: No such variant.
        UsageError: Sizes that make no network.
    """
    if options.width is None:  # variants such as "mobilenet_v1_w0.5" carry their width in the name
        named = parse_model_name(options.variant)
        depth = named.depth if options.depth is None else options.depth
        options = msgspec.structs.replace(options, variant=named.variant, width=named.width, depth=depth)
    if options.squeeze_excite:
        options = with_squeeze_excite(options)
    architecture = find_architecture(options.variant)
    check_options(options, architecture)
    return architecture.build(options)


def with_sizes(options: BuildOptions, **sizes: float | None) -> BuildOptions:
    """The options with the sizes that are not None replaced."""
    return msgspec.structs.replace(options, **{key: value for key, value in sizes.items() if value is not None})
