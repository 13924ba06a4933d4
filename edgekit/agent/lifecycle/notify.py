"""What a service tells systemd, in datagrams of a few words: sd_notify(3), without libsystemd.

Nothing here raises or waits: a service manager that is away, or slow to listen, must not take the agent with it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

_MAX_STATUS_CHARS = 512


class Notifier:
    """The way to systemd, or to nobody when the agent was started by hand.

    Args:
        address: Of the socket: a path, or "@name" in the abstract namespace; None for nobody.
        watchdog_s: How often systemd wants to hear `ping`, or it kills the service; None when it does not watch.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self.address = address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; what makes no sense counts as absent.

        Args:
            environment: None for the process's own.
        """
        given = os.environ if environment is None else environment
        address = given.get("NOTIFY_SOCKET", "")
        is_ours = given.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = given.get("WATCHDOG_USEC", "")
        is_number = usec.isascii() and usec.isdigit() and int(usec) > 0
        return cls(
            address if address[:1] in ("/", "@") and len(address) > 1 else None,
            int(usec) / 1e6 if is_ours and is_number else None,
        )

    def ready(self, status: str = "") -> bool:
        """Say that the service serves; with Type=notify it counts as started from here on."""
        return self.send(f"READY=1\nSTATUS={_one_line(status)}" if status else "READY=1")

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self.send(f"STATUS={_one_line(text)}")

    def ping(self) -> bool:
        """Say that everything still moves."""
        return self.send("WATCHDOG=1")

    def stopping(self, status: str = "") -> bool:
        """Say that the service is on its way out."""
        return self.send(f"STOPPING=1\nSTATUS={_one_line(status)}" if status else "STOPPING=1")

    def send(self, message: str) -> bool:
        """Send one datagram of KEY=VALUE lines; whether it was taken."""
        if self.address is None:
            return False
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as way:
                way.sendto(message.encode(), name)
        except (OSError, ValueError):  # nobody there, its queue is full, or a name that is none
            return False
        return True


def _one_line(text: str) -> str:
    """A newline would begin another variable."""
    return " ".join(text.split())[:_MAX_STATUS_CHARS]
