"""What `bench_zoo.py` trains: which networks, on what, for how long. Data, no code that decides."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["classic", "compact"]

EPOCHS = {"fashion_mnist": 4, "cifar10": 6}
"""Passes over the training pictures that everybody gets: about a quarter of a million pictures each."""
YARDSTICK = "vgg16_w0.125"
"""Whose latency counts as 1."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """One network of the comparison.

    Args:
        model: Catalogue variant, or an alias with embedded weights, of which nothing is trained.
        data: Dataset.
        width: Width multiplier; None for the variant's own.
        epochs: Passes over the training pictures; None for embedded weights, which say nothing of it.
        kind: "compact" for the architectures that were made to be small, "classic" for the others.
    """

    model: str
    data: str
    width: float | None = None
    epochs: int | None
    kind: Kind

    @property
    def network(self) -> str:
        """Name of the network: variant and width, as `edgekit zoo` writes it."""
        return self.model if self.width is None else f"{self.model}_w{self.width:g}"

    @property
    def stem(self) -> str:
        """Name of its folder and prefix of its figures."""
        return f"{self.network}-{self.data}-{'embedded' if self.epochs is None else f'e{self.epochs}'}"

    @property
    def is_short(self) -> bool:
        """Whether it was trained as long as everybody: those may be compared as architectures."""
        return self.epochs == EPOCHS[self.data]


def _of(data: str, kind: Kind, *networks: tuple[str, float | None], epochs: int | None = None) -> tuple[Training, ...]:
    return tuple(
        Training(model=model, data=data, width=width, epochs=epochs or EPOCHS[data], kind=kind)
        for model, width in networks
    )


_CLASSIC = (
    ("vgg16", 0.125),
    ("resnet18", 0.25),
    ("nin", 0.375),
    ("se_resnet18", 0.25),
    ("densenet121", 0.25),
)
"""Widths at which a picture costs about as much as in the compact networks: 20 million multiply-accumulates."""

_TRANSFORMER = "vit_ti_16_w0.33_d4"
"""One head and four blocks, for the same reason."""

PLAN = (
    # What is trained already, longer: by the shipped recipes, or embedded.
    *_of("fashion_mnist", "classic", ("lenet5", None), epochs=20),
    *(
        Training(model=alias, data="fashion_mnist", epochs=None, kind="compact")
        for alias in ("mobilenet", "shufflenet", "squeezenet")
    ),
    *_of("cifar10", "compact", ("squeezenet1_1", 0.5), epochs=20),
    *_of("cifar10", "compact", ("shufflenet_v2_x0_5", None), epochs=15),
    *_of("cifar10", "compact", ("mobilenet_v2", 0.35), epochs=8),
    # The same budget for all.
    *_of("fashion_mnist", "classic", *_CLASSIC),
    *_of("fashion_mnist", "compact", ("squeezenet1_1", 0.75), ("shufflenet_v2_x0_5", None), ("mobilenet_v2", 0.5)),
    *_of("cifar10", "classic", ("lenet5", None), *_CLASSIC),
    *_of("cifar10", "compact", ("squeezenet1_1", 0.5), ("shufflenet_v2_x0_5", None), ("mobilenet_v2", 0.35)),
    *_of("fashion_mnist", "classic", (_TRANSFORMER, None)),
    *_of("cifar10", "classic", (_TRANSFORMER, None)),
)
"""In this order: what is quick first, one dataset after the other."""

QUICK_PLAN = (Training(model="lenet5", data="fashion_mnist", epochs=1, kind="classic"),)


def find_trainings(words: list[str] | None) -> tuple[Training, ...]:
    """The entries of the plan whose folder name begins with one of the words; all without words."""
    if not words:
        return PLAN
    return tuple(each for each in PLAN if any(each.stem.startswith(word) for word in words))
