"""Many viewers, some of them dead: the others get their share, and nothing piles up."""

from __future__ import annotations

import selectors
import socket
import statistics
import time
from pathlib import Path

import pytest

from agent_live import Feeder
from edgekit.agent.live import Live, Shot
from edgekit.agent.web import broadcast, connection, pictures
from edgekit.agent.web.pictures import Picture
from web_client import Client, Serve, read_until, wait_until

BOUNDARY = b"--edgekit-frame\r\n"
NUM_READING, NUM_DEAD, NUM_SLOW = 42, 6, 2
MAX_GROWTH_MIB = 24


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Crowd:
    """Viewers that read as fast as they can, and some that read a little now and then."""

    def __init__(self) -> None:
        self.counts: dict[socket.socket, int] = {}
        self.num_reads = 0
        self._tails: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._slow: set[socket.socket] = set()

    def add(self, viewer: socket.socket, *, is_slow: bool = False) -> None:
        viewer.setblocking(False)
        self.counts[viewer] = 0
        self._tails[viewer] = b""
        if is_slow:
            self._slow.add(viewer)
        self._selector.register(viewer, selectors.EVENT_READ)

    def read(self) -> None:
        for key, _ in self._selector.select(0.1):
            viewer = key.fileobj
            assert isinstance(viewer, socket.socket)
            if viewer in self._slow and self.num_reads % 50:
                self.num_reads += 1
                continue
            self.num_reads += 1
            content = viewer.recv(1024 if viewer in self._slow else 262_144)
            assert content or viewer in self._slow, "a viewer that reads was dropped"
            if not content:
                self._selector.unregister(viewer)
                continue
            window = self._tails[viewer] + content
            self.counts[viewer] += window.count(BOUNDARY)
            self._tails[viewer] = window[-len(BOUNDARY) + 1 :]

    def shares(self) -> list[int]:
        """Pictures that each of those that read has got."""
        return [count for viewer, count in self.counts.items() if viewer not in self._slow]

    def close(self) -> None:
        self._selector.close()


def read_to_the_end(viewer: socket.socket) -> None:
    while viewer.recv(1 << 20):
        pass


def web_counts(client: Client) -> dict[str, float]:
    lines = client.get("/metrics").body.decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("edgekit_web")}


@pytest.mark.slow
def test_50_viewers_hold_when_some_never_read(live: Live, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 3.0)
    client = serve()
    crowd = Crowd()
    with Feeder(live, is_jpeg=True):
        for _ in range(NUM_READING):
            crowd.add(client.open("/stream.mjpg"))
        for _ in range(NUM_SLOW):
            crowd.add(client.open("/stream.mjpg", receive_buffer=2048), is_slow=True)
        dead = [client.open("/stream.mjpg", receive_buffer=2048) for _ in range(NUM_DEAD)]
        deadline = time.monotonic() + 120
        while min(crowd.shares()) < 20 and time.monotonic() < deadline:
            crowd.read()
        before_mib, before = resident_mib(), crowd.shares()
        published = -web_counts(client)["edgekit_web_pictures_total"]
        while min(crowd.shares()) < 150 and time.monotonic() < deadline:
            crowd.read()
        gained = [after - start for after, start in zip(crowd.shares(), before, strict=True)]
        counts = web_counts(client)
        published += counts["edgekit_web_pictures_total"]

        assert min(crowd.shares()) >= 150
        assert min(gained) >= 0.8 * statistics.median(gained)
        assert min(gained) >= 0.8 * published - 3
        assert resident_mib() - before_mib < MAX_GROWTH_MIB
        assert counts["edgekit_web_stalled_viewers_total"] >= NUM_DEAD

        # The dead ones were cut off, not waited for.
        wait_until(lambda: web_counts(client)['edgekit_web_viewers{kind="pictures"}'] <= NUM_READING + NUM_SLOW)
        for viewer in dead:
            with pytest.raises(ConnectionResetError):
                read_to_the_end(viewer)
    crowd.close()


def test_picture_is_coded_once_for_all_viewers(live: Live, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    coded: list[int] = []

    def encode(shot: Shot) -> Picture | None:
        coded.append(shot.answer.sequence)
        return pictures.encode_shot(shot)

    monkeypatch.setattr(broadcast, "encode_shot", encode)
    client = serve()
    with Feeder(live):
        viewers = [client.open("/stream.mjpg") for _ in range(5)]
        seen: dict[bytes, set[bytes]] = {}
        for viewer in viewers:
            for part in read_until(viewer, BOUNDARY, 8).split(BOUNDARY)[1:-1]:
                # A chunk of HTTP may end in the middle: the number and the beginning of the picture do.
                head, _, jpeg = part.partition(b"\r\n\r\n")
                seen.setdefault(head.rsplit(b" ", 1)[1], set()).add(jpeg[:200])
    assert len(seen) >= 7
    assert {len(pictures_of_number) for pictures_of_number in seen.values()} == {1}
    assert len(coded) == len(set(coded))


def test_viewers_beyond_the_cap_are_refused_until_one_leaves(live: Live, serve: Serve) -> None:
    client = serve(max_viewers=3)
    with Feeder(live, is_jpeg=True):
        viewers = [client.open("/stream.mjpg") for _ in range(3)]
        for viewer in viewers:
            read_until(viewer, BOUNDARY)
        got = client.get("/stream.mjpg")
        assert (got.status, "3 viewers" in got.json()["error"]) == (503, True)
        assert client.get("/snapshot.jpg").status == 200
        read_until(client.open("/predictions"), b"event: answer")  # counted apart

        viewers[0].close()
        wait_until(lambda: web_counts(client)['edgekit_web_viewers{kind="pictures"}'] == 2)
        read_until(client.open("/stream.mjpg"), BOUNDARY, 3)
        assert web_counts(client)["edgekit_web_refused_viewers_total"] == 1


def test_viewer_that_leaves_is_noticed_when_the_camera_gives_nothing(serve: Serve) -> None:
    client = serve()
    stream = client.open("/stream.mjpg")
    read_until(stream, BOUNDARY)
    assert web_counts(client)['edgekit_web_viewers{kind="pictures"}'] == 1

    stream.close()

    wait_until(lambda: web_counts(client)['edgekit_web_viewers{kind="pictures"}'] == 0)


def test_viewers_that_come_and_go_leave_nothing_behind(live: Live, serve: Serve) -> None:
    client = serve(max_fps=100)
    with Feeder(live, fps=100, is_jpeg=True, size=(64, 48)):
        num_descriptors = count_descriptors()
        for turn in range(150):
            for path, mark in (("/stream.mjpg", BOUNDARY), ("/predictions", b"event: answer")):
                stream = client.open(path)
                read_until(stream, mark, 1 + turn % 3)
                stream.close()
        for kind in ("pictures", "predictions"):
            wait_until(lambda kind=kind: web_counts(client)[f'edgekit_web_viewers{{kind="{kind}"}}'] == 0)
        wait_until(lambda: count_descriptors() <= num_descriptors)


def test_slow_viewer_skips_pictures_and_sees_new_ones(live: Live, serve: Serve) -> None:
    """What lies in the kernel's buffers is old; what comes behind it is not a queue of everything in between."""
    client = serve(max_fps=60)
    with Feeder(live, fps=60, is_jpeg=True, size=(1280, 720)) as feeder:
        slow = client.open("/stream.mjpg", receive_buffer=4096)
        read_until(slow, BOUNDARY, 2)
        num_before = feeder.num_put
        deadline = time.monotonic() + 60
        while feeder.num_put < num_before + 150 and time.monotonic() < deadline:
            time.sleep(0.05)
        newest = feeder.num_put
        content = b""
        while not any(number > newest for number in _numbers(content)):
            more = slow.recv(65536)
            assert more
            content = content[-200_000:] + more
            assert time.monotonic() < deadline + 60
            num_skipped = max(
                (later - earlier for earlier, later in zip(_numbers(content), _numbers(content)[1:], strict=False)),
                default=0,
            )
    assert num_skipped > 50


def _numbers(content: bytes) -> list[int]:
    return [int(line.split()[-1]) for line in content.split(b"\r\n")[:-1] if line.startswith(b"X-Frame-Sequence: ")]
