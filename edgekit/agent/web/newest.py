"""The newest of everything, for many viewers at their own pace: one slot per kind, no queues."""

from __future__ import annotations

import asyncio


class Newest:
    """Slots that are overwritten, and a wake-up for whoever waits. Of one event loop; no other thread may call it."""

    def __init__(self) -> None:
        self._slots: dict[str, tuple[int, bytes]] = {}
        self._turn = 0
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing will come any more."""
        return self._is_closed

    @property
    def turn(self) -> int:
        """How often something was put."""
        return self._turn

    def put(self, kind: str, content: bytes) -> None:
        """Overwrite a slot and wake who waits."""
        self._turn += 1
        self._slots[kind] = (self._turn, content)
        self._wake()

    def forget(self, kind: str) -> None:
        """Empty a slot."""
        self._slots.pop(kind, None)

    def close(self) -> None:
        """Wake everybody for the last time."""
        self._is_closed = True
        self._wake()

    async def wait(self, turn: int, timeout_s: float | None = None) -> bool:
        """Wait until something newer than `turn` was put, or it is closed; False when that took too long."""
        if timeout_s is None:
            while self._turn <= turn and not self._is_closed:
                await self._changed.wait()
            return True
        # Not asyncio.wait_for, which loses a cancellation in the moment of a change (before Python 3.12).
        waiting = asyncio.ensure_future(self.wait(turn))
        try:
            await asyncio.wait({waiting}, timeout=timeout_s)
            return waiting.done()
        finally:
            waiting.cancel()

    def since(self, turn: int) -> tuple[int, bytes]:
        """What is in the slots that were overwritten after `turn`, oldest first, and the turn to ask for next."""
        newer = sorted(slot for slot in self._slots.values() if slot[0] > turn)
        return self._turn, b"".join(content for _, content in newer)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
