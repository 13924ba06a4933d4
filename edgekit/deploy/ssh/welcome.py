"""Whether a board is the one that it was, and what to answer when it asks for a password."""

from __future__ import annotations

from collections.abc import Callable

import asyncssh

from edgekit.core.address import Address
from edgekit.core.errors import BoardError
from edgekit.deploy.ssh.host_keys import HostKey

_ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_RSA = ("rsa-sha2-512", "rsa-sha2-256")


class Welcome(asyncssh.SSHClient):
    """Judges the host key, and hands over the password once.

    Args:
        pins: Keys that are known of this host.
        password: Asked at most once; None from it: there is none.
        accept_new: Trust a host without pins.
    """

    def __init__(
        self, pins: tuple[HostKey, ...], password: Callable[[], str | None], *, accept_new: bool = False
    ) -> None:
        self._pins = pins
        self._ask = password
        self._accept_new = accept_new
        self._was_asked = False
        self.shown: HostKey | None = None
        self.used_password: str | None = None

    @property
    def algorithms(self) -> list[str]:
        """Kinds of host keys, the pinned one first: a server that has several then shows that one."""
        pinned = [name for key in self._pins for name in (_RSA if key.algorithm == "ssh-rsa" else (key.algorithm,))]
        return list(dict.fromkeys((*pinned, *_ALGORITHMS, *_RSA)))

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Say whether a key is the right one (called by asyncssh, which then proves that the server holds it)."""
        del host, addr, port
        algorithm, content = key.export_public_key("openssh").decode().split()[:2]
        self.shown = HostKey(algorithm=algorithm, content=content)
        return self.shown in self._pins if self._pins else self._accept_new

    def password_auth_requested(self) -> str | None:
        """Hand over the password; None gives up (called by asyncssh)."""
        if self._was_asked:
            return None
        self._was_asked = True
        self.used_password = self._ask()
        return self.used_password

    def kbdint_auth_requested(self) -> str | None:
        """Take part in keyboard-interactive login, which some servers have instead (called by asyncssh)."""
        return None if self._was_asked else ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: list[tuple[str, bool]]
    ) -> list[str] | None:
        """Answer the one hidden question with the password, and no other (called by asyncssh)."""
        del name, instructions, lang
        if not prompts:
            return []
        if len(prompts) != 1 or prompts[0][1]:
            return None
        password = self.password_auth_requested()
        return None if password is None else [password]

    def refusal(self, address: Address) -> BoardError:
        """What to say of a host key that was not accepted."""
        shown = "none" if self.shown is None else f"{self.shown.fingerprint} ({self.shown.algorithm})"
        if not self._pins:
            return BoardError(
                f"{address} was never seen before, its host key is {shown}",
                hint="compare (on the board: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then --accept-new",
            )
        pinned = ", ".join(f"{key.fingerprint} ({key.algorithm})" for key in self._pins)
        return BoardError(
            f"the host key of {address} has changed: pinned is {pinned}, it shows {shown}; somebody else may answer",
            hint=f"only if you know why (a new system on it): edgekit device remove {address.host}, then --accept-new",
        )
