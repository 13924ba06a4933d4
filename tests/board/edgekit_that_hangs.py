#!/usr/bin/python3
"""The command `edgekit`, whose inference stands still for ever once there is a file /run/edgekit/hang.

Everything else is as it is. The file goes with the service: systemd removes /run/edgekit when it ends.
"""

from __future__ import annotations

import time
from pathlib import Path

from edgekit.agent.loop import InferenceLoop
from edgekit.cli.main import main

_answer = InferenceLoop.answer


def answer_or_hang(self: InferenceLoop, *words: object) -> object:
    """Answer, or never."""
    while Path("/run/edgekit/hang").exists():
        time.sleep(1)
    return _answer(self, *words)  # type: ignore[arg-type]


InferenceLoop.answer = answer_or_hang  # type: ignore[method-assign,assignment]

if __name__ == "__main__":
    main()
