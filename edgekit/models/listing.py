"""What `edgekit zoo` lists: every variant with its size and work, and the aliases with embedded weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from edgekit.models.architecture import Architecture, Published
from edgekit.models.counting import measure
from edgekit.models.weights import embedded_card, embedded_names, weights_at_hand
from edgekit.models.zoo import ARCHITECTURES, find_architecture, model_name, parse_model_name

FLOAT_BYTES = 4
SIZES_PATH = Path(__file__).with_name("zoo_sizes.json")
"""Measured sizes of packed files, written by tools/bench_zoo.py."""


class PackedSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bytes of the .ekz file of a variant, labels apart.

    Args:
        bits8_bytes: Weights on 8 bits.
        bits6_bytes: Weights on 6 bits.
        trained: Whether the weights were; those that the initialisation draws code in more bits.
    """

    bits8_bytes: int
    bits6_bytes: int
    trained: bool = False


class PackedSizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of measured sizes.

    Args:
        sizes: By variant.
    """

    sizes: dict[str, PackedSize]


class ZooEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the zoo.

    Args:
        name: What `MODEL` takes.
        title: Name as papers write it; for an alias, what it stands for.
        num_params: Parameters, counted on the network itself.
        macs: Multiply-accumulates of one picture, counted likewise.
        float_bytes: Parameters in float32.
        input_size: Square input in pixels that the counts are for.
        num_classes: Outputs that the counts are for.
        weights: Trained weights at hand, as "dataset (origin)"; None when it has to be trained first.
        top1: Measured test accuracy of those weights, 0..1; None when there are none, or it is not in their card.
        published: Figures of the paper; None for aliases.
        year: Of the paper; None for aliases.
        packed: Measured size of the packed files; None where it was not measured, and for aliases.
    """

    name: str
    title: str
    num_params: int
    macs: int
    float_bytes: int
    input_size: int
    num_classes: int
    weights: str | None
    top1: float | None = None
    published: Published | None = None
    year: int | None = None
    packed: PackedSize | None = None


class ZooListing(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON form of the zoo."""

    models: tuple[ZooEntry, ...]


def list_models() -> list[ZooEntry]:
    """List the aliases with embedded weights, then every variant, at the size that its published figures are for."""
    entries = [_describe_alias(alias) for alias in embedded_names()]
    for name in ARCHITECTURES.names:
        architecture = ARCHITECTURES.load(name)
        entries += [_describe_variant(architecture, variant) for variant in architecture.variants]
    return entries


def list_systems() -> list[ZooEntry]:
    """List the variants in the order of their years: what the size of a compact model is measured by."""
    architectures = map(ARCHITECTURES.load, ARCHITECTURES.names)
    entries = [_describe_variant(each, variant) for each in architectures for variant in each.variants]
    return sorted(entries, key=lambda entry: (entry.year or 0, entry.name))


@cache
def packed_sizes() -> dict[str, PackedSize]:
    """Measured sizes by variant; of those that are in the file."""
    return msgspec.json.decode(SIZES_PATH.read_bytes(), type=PackedSizes).sizes


def encode_listing(entries: list[ZooEntry]) -> bytes:
    """The zoo as one JSON document: `{"models": [{"name", "num_params", "macs", ...}, ...]}`."""
    return msgspec.json.encode(ZooListing(models=tuple(entries)))


def _describe_variant(architecture: Architecture, variant: str) -> ZooEntry:
    published = architecture.variants[variant]
    options = parse_model_name(variant)
    num_params, macs = measure(options)
    return ZooEntry(
        name=variant,
        title=architecture.title,
        num_params=num_params,
        macs=macs,
        float_bytes=FLOAT_BYTES * num_params,
        input_size=options.input_size,
        num_classes=options.num_classes,
        weights=weights_at_hand(variant),
        published=published,
        year=architecture.year,
        packed=packed_sizes().get(variant),
    )


def _describe_alias(alias: str) -> ZooEntry:
    card = embedded_card(alias)
    num_params, macs = measure(card.options)
    return ZooEntry(
        name=alias,
        title=f"{find_architecture(card.options.variant).title}: {model_name(card.options)}",
        num_params=num_params,
        macs=macs,
        float_bytes=FLOAT_BYTES * num_params,
        input_size=card.options.input_size,
        num_classes=card.options.num_classes,
        weights=weights_at_hand(alias),
        top1=card.test_top1,
    )
