"""How a long stage tells how far it is. The command line draws bars; the Python API is silent unless told otherwise."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the steps of one stage after the other."""

    def begin(self, label: str, total: int) -> None:
        """A stage of `total` steps starts."""
        ...

    def advance(self, amount: int = 1, status: str = "") -> None:
        """`amount` more steps are done; `status` is a short line of numbers to show."""
        ...

    def end(self) -> None:
        """The stage is done, or given up."""
        ...


class Silent:
    """A `Progress` that shows nothing."""

    def begin(self, label: str, total: int) -> None:
        """Show nothing."""

    def advance(self, amount: int = 1, status: str = "") -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""
