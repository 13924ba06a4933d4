"""Host keys that were seen before, in a `known_hosts` file of edgekit's own, in OpenSSH's form.

Not the user's ~/.ssh/known_hosts: what is pinned for a fleet should neither be weakened by a key that somebody once
accepted in passing, nor spoil that file. `ssh -o UserKnownHostsFile=...` reads this one, too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path

import msgspec

from edgekit.core.address import SSH_PORT, Address
from edgekit.core.errors import IntegrityError
from edgekit.core.storage import write_text

KNOWN_HOSTS = "known_hosts"


class HostKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key of an SSH server.

    Args:
        algorithm: "ssh-ed25519", ...
        content: Base64 of the key's SSH encoding.
    """

    algorithm: str
    content: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it: "SHA256:..."."""
        digest = hashlib.sha256(base64.b64decode(self.content)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def pattern(address: Address) -> str:
    """What a host is called in the file.

    >>> pattern(Address(host="Kitchen.local")), pattern(Address(host="kitchen.local", port=2222))
    ('kitchen.local', '[kitchen.local]:2222')
    """
    host = address.host.lower()
    return host if address.port == SSH_PORT else f"[{host}]:{address.port}"


def read_pins(folder: Path, address: Address) -> tuple[HostKey, ...]:
    """The keys that are pinned for a host; none where it was never seen.

    Raises:
        IntegrityError: The file cannot be read, or a line of this host is damaged.
    """
    wanted = pattern(address)
    return tuple(key for name, key in _entries(folder) if name == wanted)


def pin(folder: Path, address: Address, key: HostKey) -> None:
    """Remember a key as the only one of a host. The caller holds the lock of the inventory.

    Raises:
        IntegrityError: As `read_pins`.
        OutputError: The file cannot be written.
    """
    lines = [*_other_lines(folder, address), f"{pattern(address)} {key.algorithm} {key.content}\n"]
    write_text(folder / KNOWN_HOSTS, "".join(lines))


def forget(folder: Path, address: Address) -> bool:
    """Forget the keys of a host; whether there were any. Raises as `pin`."""
    lines = _other_lines(folder, address)
    if len(lines) == len(_lines(folder)):
        return False
    write_text(folder / KNOWN_HOSTS, "".join(lines))
    return True


def _entries(folder: Path) -> list[tuple[str, HostKey]]:
    entries: list[tuple[str, HostKey]] = []
    for number, line in enumerate(_lines(folder), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            name, algorithm, content = words[:3]
            base64.b64decode(content, validate=True)
        except (ValueError, binascii.Error) as error:
            what = f"{folder / KNOWN_HOSTS}, line {number}, is no host key"
            raise IntegrityError(what, hint="take the line out; the board then has to be accepted anew") from error
        entries += [(part, HostKey(algorithm=algorithm, content=content)) for part in name.split(",")]
    return entries


def _other_lines(folder: Path, address: Address) -> list[str]:
    return [line for line in _lines(folder) if not line.strip() or line.split()[0] != pattern(address)]


def _lines(folder: Path) -> list[str]:
    try:
        return (folder / KNOWN_HOSTS).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"cannot read {folder / KNOWN_HOSTS}: {error}") from error
