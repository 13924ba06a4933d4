"""Runs on the emulated board: one JSON line for every answer of the agent, with its moment, and for every snapshot.

It ends with its standard input. When the agent is not there, it asks again.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from typing import Any


def main() -> int:
    """Listen to the agent's predictions, until standard input ends."""
    threading.Thread(target=listen, daemon=True).start()
    sys.stdin.read()
    return 0


def listen() -> None:
    """Print what is answered, for ever."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
        try:
            connection.request("GET", "/predictions")
            for line in connection.getresponse():
                if line.startswith(b"data: {"):
                    show(json.loads(line[6:]))
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()


def show(told: dict[str, Any]) -> None:
    """Print one answer, or which model a snapshot names: `at_s` on the board's CLOCK_MONOTONIC."""
    now_s = time.monotonic()
    if "since_ms" in told:
        look = {"at_s": now_s - told["since_ms"] / 1e3, "sequence": told["sequence"]}
    elif told.get("model"):
        look = {"at_s": now_s, "model": told["model"]["sha256"]}
    else:
        return
    sys.stdout.write(json.dumps(look) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
