"""What viewers are sent: looked up in `Live` and written down once, at a steady pace, and only while somebody looks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

from edgekit.agent.live import Live
from edgekit.agent.web.events import answer_event, status_event, stream_opening
from edgekit.agent.web.newest import Newest
from edgekit.agent.web.pictures import Picture, encode_shot, multipart_part
from edgekit.core.frame import Answer

ViewerKind: TypeAlias = Literal["pictures", "predictions"]

_POLL_S = 0.02
"""How often a new picture is looked for, once one is due."""


class Broadcast:
    """The newest picture and the newest events, as bytes that all viewers share. Of one event loop."""

    def __init__(self, live: Live, max_fps: float, max_viewers: int) -> None:
        self.pictures = Newest()
        self.events = Newest()
        self.picture: Picture | None = None
        self.num_pictures = 0
        self.num_uncodable = 0
        self.num_turned_away = 0
        self.num_stalled = 0
        self._live = live
        self._period_s = 1.0 / max_fps
        self._max_viewers = max_viewers
        self._viewers: dict[ViewerKind, int] = {"pictures": 0, "predictions": 0}
        self._somebody = {kind: asyncio.Event() for kind in self._viewers}
        self._encoder = ThreadPoolExecutor(1, "edgekit-web-jpeg", initializer=lower_priority, initargs=(10,))

    def num_viewers(self, kind: ViewerKind) -> int:
        """How many look now."""
        return self._viewers[kind]

    def has_room(self, kind: ViewerKind) -> bool:
        """Whether one more may look; counts those that may not."""
        if self._viewers[kind] < self._max_viewers:
            return True
        self.num_turned_away += 1
        return False

    @contextlib.contextmanager
    def looking(self, kind: ViewerKind) -> Generator[None, None, None]:
        """Somebody looks as long as this is open."""
        self._viewers[kind] += 1
        self._somebody[kind].set()
        try:
            yield
        finally:
            self._viewers[kind] -= 1
            if not self._viewers[kind]:
                self._somebody[kind].clear()

    async def run(self) -> None:
        """Look things up until cancelled."""
        try:
            await asyncio.gather(self._watch_pictures(), self._watch_events())
        finally:
            self._encoder.shutdown(wait=False, cancel_futures=True)

    async def snapshot(self, timeout_s: float) -> Picture | None:
        """The newest picture; waits for the first one when nobody looked before. None at the timeout."""
        with self.looking("pictures"):
            if self.picture is None:
                await self.pictures.wait(self.pictures.turn, timeout_s)
            return self.picture

    def events_opening(self) -> bytes:
        """What somebody who has just come is told: the newest answer and snapshot, with their age as it is now."""
        answer, status = self._live.answer(), self._live.status()
        return b"".join(
            (
                stream_opening(),
                b"" if status is None else status_event(status),
                b"" if answer is None else answer_event(answer),
            )
        )

    def close(self) -> None:
        """End all streams."""
        self.pictures.close()
        self.events.close()

    async def _watch_pictures(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = 0.0
        while True:
            if not self._viewers["pictures"]:
                # Whoever comes next must not take this one for new.
                self.picture = None
                self.pictures.forget("picture")
                await self._somebody["pictures"].wait()
            shot = self._live.shot()
            if shot is None or (self.picture is not None and shot.answer.sequence == self.picture.sequence):
                await asyncio.sleep(_POLL_S)
                continue
            if shot.jpeg is None:
                picture = await loop.run_in_executor(self._encoder, encode_shot, shot)
            else:
                picture = encode_shot(shot)
            del shot  # not kept while waiting: it may be large
            if picture is None:
                self.num_uncodable += 1
            else:
                self.picture = picture
                self.num_pictures += 1
                self.pictures.put("picture", multipart_part(picture))
            # From when it was due, not from now: otherwise every small delay adds up to a lower rate.
            due_s = max(due_s + self._period_s, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())

    async def _watch_events(self) -> None:
        answer: Answer | None = None
        status = None
        while True:
            if not self._viewers["predictions"]:
                await self._somebody["predictions"].wait()
            newest_answer, newest_status = self._live.answer(), self._live.status()
            if newest_answer is not None and newest_answer is not answer:
                answer = newest_answer
                self.events.put("answer", answer_event(answer))
            if newest_status is not None and newest_status is not status:
                status = newest_status
                self.events.put("status", status_event(status))
            await asyncio.sleep(self._period_s)


def lower_priority(niceness: int) -> None:
    """Let the inference go first: on Linux the nice value is of one thread. A sandbox may forbid it; then not."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
