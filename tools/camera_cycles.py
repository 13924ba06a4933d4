"""Lose a camera and get it back, many times, and count what is left behind.

`python tools/camera_cycles.py --cycles 1000 --fault stall` prints one JSON document. Faults:

- `unplug`: a synthetic camera whose device vanishes; `stall`: one that hangs, so its process is killed;
- `drop`: a real MJPEG server breaks the connection off; `refuse`: its port is closed for a while.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent_usage import read_usage
from edgekit.agent.camera import parse_camera
from edgekit.agent.capture.supervisor import CaptureSupervisor
from mjpeg_server import MjpegServer, encode_pattern

FAULTS = ("unplug", "stall", "drop", "refuse")
PATIENCE_S = 60.0


class Cycles(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen.

    Args:
        fault: Which.
        num_cycles: Losses and recoveries.
        seen_max_s: Longest time from the fault to the shown state "lost".
        recovered_max_s: Longest time from the return of the camera to the next frame.
        recovered_p50_s: Median of it.
        rss_drift_mib: Growth of this process's resident memory from a tenth of the cycles to the end.
        descriptors: Open files before, and after.
        children: Child processes before, and after.
    """

    fault: str
    num_cycles: int
    seen_max_s: float
    recovered_max_s: float
    recovered_p50_s: float
    rss_drift_mib: float
    descriptors: tuple[int, int]
    children: tuple[int, int]


def run_cycles(fault: str, num_cycles: int, *, read_timeout_s: float | None = None, outage_s: float = 0.0) -> Cycles:
    """Lose a camera and wait for it, `num_cycles` times.

    Args:
        fault: One of FAULTS.
        num_cycles: How often.
        read_timeout_s: Of the camera; None: 2 s.
        outage_s: How long it stays away after its loss was seen.
    """
    before = read_usage(())
    with tempfile.TemporaryDirectory() as folder:
        device = Path(folder) / "device"
        device.touch()
        server = MjpegServer(encode_pattern(160, 120), fps=30) if fault in {"drop", "refuse"} else None
        address = f"synthetic:160x120@30,{'needs' if fault == 'unplug' else 'stalls_without'}={device}"
        request = parse_camera(server.address if server is not None else address)
        lose, bring_back = _choose_actions(fault, device, server)
        supervisor = CaptureSupervisor(msgspec.structs.replace(request, read_timeout_s=read_timeout_s))
        supervisor.start()
        seen: list[float] = []
        recovered: list[float] = []
        rss_mib = 0.0
        try:
            _take_one(supervisor)
            for cycle in range(num_cycles):
                if cycle == num_cycles // 10:
                    rss_mib = read_usage(()).rss_mib
                num_lost = supervisor.status().num_lost
                began = time.monotonic()
                lose()
                seen.append(_wait_for_loss(supervisor, num_lost) - began)
                time.sleep(outage_s)
                began = time.monotonic()
                bring_back()
                _take_one(supervisor)
                recovered.append(time.monotonic() - began)
            drift_mib = read_usage(()).rss_mib - rss_mib
        finally:
            supervisor.stop()
            if server is not None:
                server.close()
        del supervisor
    after = read_usage(())
    return Cycles(
        fault=fault,
        num_cycles=num_cycles,
        seen_max_s=max(seen),
        recovered_max_s=max(recovered),
        recovered_p50_s=sorted(recovered)[len(recovered) // 2],
        rss_drift_mib=drift_mib,
        descriptors=(before.num_descriptors, after.num_descriptors),
        children=(before.num_children, after.num_children),
    )


def _choose_actions(
    fault: str, device: Path, server: MjpegServer | None
) -> tuple[Callable[[], None], Callable[[], object]]:
    if server is None:
        return device.unlink, device.touch
    if fault == "refuse":
        return server.refuse, server.listen
    return server.drop, lambda: None


def _take_one(supervisor: CaptureSupervisor) -> None:
    if supervisor.take(PATIENCE_S) is None:
        raise TimeoutError(f"no frame for {PATIENCE_S} s: {supervisor.status()}")


def _wait_for_loss(supervisor: CaptureSupervisor, num_lost: int) -> float:
    """Wait until the camera was given up; when its loss was first shown."""
    deadline = time.monotonic() + PATIENCE_S
    shown = 0.0
    while (status := supervisor.status()).num_lost == num_lost or not shown:
        if not shown and status.state == "lost":
            shown = time.monotonic()
        supervisor.take(0.02)
        if time.monotonic() > deadline:
            raise TimeoutError(f"the loss was not seen: {supervisor.status()}")
    return shown


def main(arguments: list[str] | None = None) -> None:
    """Lose and count, and print the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--fault", choices=FAULTS, default="unplug")
    parser.add_argument("--read-timeout-s", type=float)
    parser.add_argument("--outage-s", type=float, default=0.0)
    options = parser.parse_args(arguments)
    cycles = run_cycles(options.fault, options.cycles, read_timeout_s=options.read_timeout_s, outage_s=options.outage_s)
    sys.stdout.write(json.dumps(msgspec.to_builtins(cycles), indent=2) + "\n")


if __name__ == "__main__":
    main()
