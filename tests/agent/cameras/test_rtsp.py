"""A real RTSP server (GStreamer), killed, stopped and absent."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from camera_waits import running, take, take_until, wait_until
from edgekit.agent.camera import CameraRequest, parse_camera

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).resolve().parents[2] / "rtsp_server.py"

pytestmark = pytest.mark.timeout(180)


def has_gstreamer() -> bool:
    program = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process of a server."""
    command = [SYSTEM_PYTHON, str(SERVER), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip(), server
        finally:
            server.kill()


@pytest.mark.skipif(not has_gstreamer(), reason="no gst-rtsp-server for the system's Python")
def test_stream_is_read_lost_and_found_again() -> None:
    with serving() as (address, server):
        request = parse_camera(address.replace("://", "://user:secret@"))
        with running(request) as supervisor:
            frames = [take(supervisor) for _ in range(5)]
            status = supervisor.status()
            assert frames[0].picture.shape == (240, 320, 3)
            assert frames[0].picture.std() > 5
            assert status.source == address
            assert (status.width, status.height, status.declared_fps) == (320, 240, 25.0)

            server.send_signal(signal.SIGSTOP)  # a server that hangs: FFmpeg waits
            take_until(supervisor, lambda: supervisor.status().num_lost == 1, "the stall is seen")
            assert supervisor.status().state == "lost"
            assert "no picture for 2.0 s" in supervisor.status().detail
            server.send_signal(signal.SIGCONT)
            take_until(supervisor, lambda: supervisor.status().state == "streaming", "the stream is back")

            server.kill()
            server.wait()
            take_until(supervisor, lambda: "no RTSP stream" in supervisor.status().detail, "the absence is told")
            assert "secret" not in repr(supervisor.status())
            with serving(int(address.rpartition(":")[2].partition("/")[0])):
                take_until(supervisor, lambda: supervisor.status().state == "streaming", "the stream is back")
                assert take(supervisor).sequence > frames[-1].sequence


def test_refused_port_is_lost_and_tried_gently() -> None:
    request = CameraRequest(kind="rtsp", source="rtsp://127.0.0.1:1/cam")
    with running(request) as supervisor:
        wait_until(lambda: supervisor.status().state == "lost", "the refusal is seen")
        wait_until(lambda: supervisor._num_openings >= 2, "another try")
        assert "no RTSP stream" in supervisor.status().detail
        assert supervisor.take(0.1) is None
