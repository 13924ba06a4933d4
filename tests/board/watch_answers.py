"""Runs on the emulated board: every answer of the agent as one JSON line, with the moment at which it was given.

It ends with its standard input. When the agent is not there, it asks again.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time


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
                if line.startswith(b'data: {"sequence"'):
                    show(json.loads(line[6:]))
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()


def show(answer: dict[str, float]) -> None:
    """Print one answer: `at_s` on the board's CLOCK_MONOTONIC."""
    at_s = time.monotonic() - answer["since_ms"] / 1e3
    sys.stdout.write(json.dumps({"at_s": at_s, "sequence": answer["sequence"], "age_ms": answer["age_ms"]}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
