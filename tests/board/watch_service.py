"""Runs on the emulated board: what systemd and the agent itself say of the agent, one JSON line a look.

It ends with its standard input.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
import urllib.request

_KEYS = ("ActiveState", "SubState", "Result", "MainPID", "NRestarts", "StatusText", "ExecMainStatus", "ExecMainCode")
_TIMES = ("ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")


def main() -> int:
    """Look twice a second, until standard input ends."""
    show = ["systemctl", "show", "edgekit-agent", "--property", ",".join(_KEYS + _TIMES)]
    while not select.select([sys.stdin], [], [], 0.5)[0]:
        told = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        told_pairs = dict(line.split("=", 1) for line in told.splitlines())
        look = {**told_pairs, "status": ask("http://127.0.0.1:8080/status"), "at_s": time.monotonic()}
        sys.stdout.write(json.dumps(look) + "\n")
        sys.stdout.flush()
    return 0


def ask(url: str) -> object:
    """What the agent says; None when it says nothing."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
