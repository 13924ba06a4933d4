"""The same for several boards at once, a few at a time; one that fails stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from edgekit.core.errors import EdgekitError

Target = TypeVar("Target")
Result = TypeVar("Result")

AT_ONCE = 8
"""Boards that are worked on at the same time."""


class Ended(msgspec.Struct, Generic[Target, Result], frozen=True, kw_only=True):
    """How it went for one board.

    Args:
        target: Which.
        result: What came of it; None when it failed.
        error: Why it failed.
    """

    target: Target
    result: Result | None = None
    error: EdgekitError | None = None


async def for_each(
    targets: Sequence[Target],
    work: Callable[[Target], Awaitable[Result]],
    *,
    at_once: int = AT_ONCE,
    ended: Callable[[Ended[Target, Result]], None] = lambda one: None,  # noqa: ARG005 - nobody listens
) -> tuple[Ended[Target, Result], ...]:
    """Do something to every board.

    Args:
        targets: Boards.
        work: What is done to one.
        at_once: How many at the same time.
        ended: Called as each comes to its end, in whatever order.

    Returns:
        One for each target, in their order. Only edgekit's own errors are kept; a defect is raised.
    """
    turns = asyncio.Semaphore(at_once)

    async def one(target: Target) -> Ended[Target, Result]:
        async with turns:
            try:
                outcome = Ended[Target, Result](target=target, result=await work(target))
            except EdgekitError as error:
                outcome = Ended[Target, Result](target=target, error=error)
        ended(outcome)
        return outcome

    return tuple(await asyncio.gather(*(one(target) for target in targets)))
