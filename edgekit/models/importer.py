"""What a file in `edgekit/models/imports` offers: `IMPORTER = Importer(...)`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from torch import Tensor, nn

from edgekit.core.catalogue import Catalogue
from edgekit.core.errors import DataError
from edgekit.models.checkpoint import CheckpointCard, load_into
from edgekit.models.zoo import build_model, model_name


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that were read.

    Args:
        state: Names of our architecture -> float32 tensors.
        card: The network they fit, and how pictures are prepared for it.
    """

    state: dict[str, Tensor]
    card: CheckpointCard


class Importer(msgspec.Struct, frozen=True, kw_only=True):
    """One foreign format.

    Args:
        title: What it is, for people.
        source: Where such files come from.
        read: Content of a file -> weights. Raises `IntegrityError` for what is no such file.
    """

    title: str
    source: str
    read: Callable[[bytes], Imported]


IMPORTERS: Catalogue[Importer] = Catalogue("edgekit.models.imports", "IMPORTER", Importer, "import format")


def import_weights(format_name: str, path: Path) -> tuple[nn.Module, Imported]:
    """Read a foreign file into one of our networks, in eval mode.

    Args:
        format_name: File name in `edgekit/models/imports`; dashes count as underscores.
        path: The file.

    Raises:
        UnknownNameError: No such format; the nearest is the hint.
        DataError: The file cannot be read.
        IntegrityError: It is no file of that format.
    """
    importer = IMPORTERS.load(format_name.replace("-", "_"))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    imported = importer.read(content)
    module = build_model(imported.card.options)
    load_into(module, imported.state, f"{path} ({model_name(imported.card.options)})")
    return module.eval(), imported
