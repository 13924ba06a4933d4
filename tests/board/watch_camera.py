"""Runs on the emulated board: a capture, watched. `watch_camera.py CAMERA [NAME=VALUE ...]`, one JSON line per look.

It takes every frame it can get, as an agent with a fast model would, and says every tenth of a second what it saw.
It ends with its standard input, so that a test that dies leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from itertools import pairwise

import msgspec

from edgekit.agent.camera import CameraRequest, parse_camera
from edgekit.agent.capture.supervisor import CaptureSupervisor


def main(arguments: list[str]) -> int:
    """Watch until standard input ends."""
    camera, *settings = arguments
    asked = {name: json.loads(value) for name, value in (setting.split("=", 1) for setting in settings)}
    request = msgspec.convert({**msgspec.to_builtins(parse_camera(camera)), **asked}, CameraRequest)
    supervisor = CaptureSupervisor(request)
    began_ns = time.monotonic_ns()
    supervisor.start()
    try:
        watch(supervisor)
    finally:
        stopping_ns = time.monotonic_ns()
        supervisor.stop()
        stop_s = (time.monotonic_ns() - stopping_ns) / 1e9
        say({"stop_s": stop_s, "seconds": (stopping_ns - began_ns) / 1e9})
    return 0


def watch(supervisor: CaptureSupervisor) -> None:
    """Take frames and report."""
    num_frames = 0
    last: dict[str, object] = {}
    sequences: list[int] = []
    times: list[int] = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        end = time.monotonic() + 0.1
        while (left := end - time.monotonic()) > 0:
            frame = supervisor.take(left)
            if frame is None:
                continue
            taken_ns = time.monotonic_ns()
            num_frames += 1
            sequences.append(frame.sequence)
            times.append(frame.captured_ns)
            sparse = frame.picture[::4, ::4].reshape(-1, frame.picture.shape[2])  # all of it is slow when emulated
            last = {
                "size": [frame.picture.shape[1], frame.picture.shape[0]],
                "order": frame.color_order,
                "low": sparse.min(axis=0).tolist(),
                "high": sparse.max(axis=0).tolist(),
                "time_source": frame.time_source,
                "age_ms": (taken_ns - frame.captured_ns) / 1e6,
            }
        rises = all(a < b for series in (sequences, times) for a, b in pairwise(series))
        sequences, times = sequences[-1:], times[-1:]
        status = msgspec.to_builtins(supervisor.status())
        look = {**status, "num_frames": num_frames, "rises": rises, "frame": last, "pid": os.getpid()}
        say({**look, "children": supervisor.pids(), "at_s": time.monotonic()})


def say(look: dict[str, object]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(look) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
