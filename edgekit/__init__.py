"""edgekit: from a folder of pictures to a camera classifier on a board, at the smallest honest size.

What the commands do is callable:

    import edgekit
    result = edgekit.compress("mobilenet", bits=8)
    print(result.report.sizes.tflite_bytes, result.passed)

Importing edgekit imports nothing heavy; torch, onnx and the rest load when a function first needs them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.api import (
        classify,
        compress,
        embed,
        evaluate,
        evaluate_file,
        explain,
        export,
        pack,
        robustness,
        search,
        train,
        unpack,
        verify,
    )
    from edgekit.core.errors import EdgekitError

__version__ = "0.1.0"
__all__ = [
    "EdgekitError",
    "__version__",
    "classify",
    "compress",
    "embed",
    "evaluate",
    "evaluate_file",
    "explain",
    "export",
    "pack",
    "robustness",
    "search",
    "train",
    "unpack",
    "verify",
]


def __getattr__(name: str) -> object:
    """Load a public function when it is first asked for (PEP 562)."""
    if name == "EdgekitError":
        from edgekit.core.errors import EdgekitError

        return EdgekitError
    if name in __all__:
        from edgekit import api

        return getattr(api, name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")


class _CallableModule(ModuleType):
    """A sub-package that shares its name with a public function, and can be called as it."""

    def __call__(self, *arguments: Any, **options: Any) -> object:
        """Call the public function of this name."""
        from edgekit import api

        return getattr(api, self.__name__.rpartition(".")[2])(*arguments, **options)


class _Package(ModuleType):
    """This package. Importing `edgekit.verify` binds that module here, over the function of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
