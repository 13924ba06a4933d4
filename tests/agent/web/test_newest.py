"""One slot per kind, no queues."""

from __future__ import annotations

import asyncio

import pytest

from edgekit.agent.web.newest import Newest


def test_newest_gives_only_what_was_put_last_of_each_kind() -> None:
    newest = Newest()
    for content in (b"a1", b"a2", b"a3"):
        newest.put("answer", content)
    newest.put("status", b"s1")

    assert newest.since(0) == (4, b"a3s1")
    assert newest.since(3) == (4, b"s1")
    assert newest.since(4) == (4, b"")
    newest.put("answer", b"a4")
    assert newest.since(0) == (5, b"s1a4")
    newest.forget("status")
    newest.forget("status")
    assert newest.since(0) == (5, b"a4")


def test_newest_wakes_everybody_who_waits_and_nobody_waits_for_what_is_there() -> None:
    async def run() -> list[tuple[int, bytes]]:
        newest = Newest()
        got: list[tuple[int, bytes]] = []

        async def look() -> None:
            await newest.wait(0)
            got.append(newest.since(0))

        waiting = [asyncio.ensure_future(look()) for _ in range(3)]
        await asyncio.sleep(0)
        newest.put("picture", b"p")
        await asyncio.wait_for(asyncio.gather(*waiting), 30)
        await asyncio.wait_for(newest.wait(0), 30)
        return got

    assert asyncio.run(run()) == [(1, b"p")] * 3


def test_newest_ends_all_waiting_when_closed() -> None:
    async def run() -> bool:
        newest = Newest()
        waiting = asyncio.ensure_future(newest.wait(0))
        await asyncio.sleep(0)
        newest.close()
        await asyncio.wait_for(waiting, 30)
        await asyncio.wait_for(newest.wait(99), 30)
        return newest.is_closed

    assert asyncio.run(run())


def test_newest_can_be_waited_for_in_vain() -> None:
    async def run() -> tuple[bool, bool]:
        newest = Newest()
        in_vain = await newest.wait(0, 0.01)
        newest.put("picture", b"p")
        return in_vain, await newest.wait(0, 30)

    assert asyncio.run(run()) == (False, True)


@pytest.mark.parametrize("num_steps", range(6))
def test_newest_lets_go_of_who_is_cancelled_in_the_moment_of_a_change(num_steps: int) -> None:
    """`asyncio.wait_for` before Python 3.12 loses such a cancellation: a viewer that left would be served for ever."""

    async def run() -> bool:
        newest = Newest()
        waiting = asyncio.ensure_future(newest.wait(0, 30))
        for _ in range(3):
            await asyncio.sleep(0)
        newest.put("picture", b"p")
        for _ in range(num_steps):
            await asyncio.sleep(0)
        was_asked_to_end = waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled() == was_asked_to_end

    assert asyncio.run(run())
