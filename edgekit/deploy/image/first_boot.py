"""What the first boot has to know, checked; and the texts that carry it: pure functions."""

from __future__ import annotations

import hashlib
import re
import shlex
import uuid

import msgspec

from edgekit.core.errors import UsageError

DEFAULT_USER = "pi"
RUN_ONCE = "/usr/lib/edgekit/firstrun.sh"
KEYS = "/usr/lib/edgekit/authorized_keys"
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_TAKEN_USERS = frozenset({"root", "edgekit", "daemon", "nobody", "sshd", "www-data"})
_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d{3}|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]{16,}={0,2}( .*)?")
_RUN_WORDS = re.compile(r"systemd\.run(_success_action|_failure_action)?=.*|systemd\.unit=kernel-command-line\.target")
_COUNTRY_WORD = "cfg80211.ieee80211_regdom="
_NAMESPACE = uuid.UUID("6f1c4c9e-3f0f-5c0b-9d57-0c1d6f1e8a11")


class Wifi(msgspec.Struct, frozen=True, kw_only=True):
    """A wireless network. Its key is no part of any text that is shown.

    Args:
        ssid: Name, 1 to 32 bytes as UTF-8.
        key_hex: 256-bit key (WPA2), lower-case hex; None for an open network.
        country: Two letters, for the frequencies that may be used; None for those that may be everywhere.
    """

    ssid: str
    key_hex: str | None = None
    country: str | None = None

    def __repr__(self) -> str:
        """The network without its key."""
        return f"Wifi(ssid={self.ssid!r})"


class FirstBoot(msgspec.Struct, frozen=True, kw_only=True):
    """Settings for the first boot; None leaves what the image has.

    Args:
        hostname: Of the board.
        user: Who logs in.
        ssh_keys: Lines for `authorized_keys`; empty: no login over the network is opened.
        wifi: Wireless network.
    """

    hostname: str | None = None
    user: str | None = None
    ssh_keys: tuple[str, ...] = ()
    wifi: Wifi | None = None

    @property
    def runs_once(self) -> bool:
        """Whether something has to be done that only a running system can."""
        return self.user is not None or bool(self.ssh_keys) or self.wifi is not None


def check_hostname(hostname: str) -> str:
    """A host name (RFC 1123): lower-case letters, digits, hyphens.

    Raises:
        UsageError: It is none.
    """
    if not _HOSTNAME.fullmatch(hostname):
        raise UsageError(
            f"host name {hostname!r}, expected letters a-z, digits and hyphens within, at most 63",
            hint="for example --hostname kitchen",
        )
    return hostname


def check_user(user: str) -> str:
    """A user's name that is not taken by the system.

    Raises:
        UsageError: It is none, or taken.
    """
    if not _USER.fullmatch(user) or user in _TAKEN_USERS:
        raise UsageError(
            f"user {user!r}, expected letters a-z, digits, - and _, at most 31, and none of the system's own",
            hint="for example --user maker",
        )
    return user


def parse_ssh_keys(text: str, where: str) -> tuple[str, ...]:
    """Public keys, one a line, as in `authorized_keys`; comments and empty lines are left out.

    Raises:
        UsageError: A private key, no key, or a line that is none.
    """
    if "PRIVATE KEY" in text:
        raise UsageError(f"{where} is a private key", hint="name the file that ends in .pub")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    for number, line in enumerate(lines, start=1):
        if not _KEY.fullmatch(line) or not line.isprintable():
            raise UsageError(f"{where}: key {number} is no public SSH key", hint="ssh-keygen -t ed25519 makes one")
    if not lines:
        raise UsageError(f"{where} holds no public SSH key", hint="ssh-keygen -t ed25519 makes one")
    return tuple(lines)


def make_wifi(ssid: str, password: str | None, country: str | None = None) -> Wifi:
    """Check a wireless network, and derive its key (IEEE 802.11i: PBKDF2 of the password, salted with the name).

    Args:
        ssid: Its name.
        password: 8 to 63 printable ASCII characters, or the key itself in 64 hex digits; None for an open network.
        country: ISO 3166, two letters.

    Raises:
        UsageError: One of them is not possible. The message never holds the password.
    """
    if not 1 <= len(ssid.encode()) <= 32 or not ssid.isprintable():
        raise UsageError(f"network name {ssid!r} has {len(ssid.encode())} bytes, expected 1 to 32 that can be printed")
    if country is not None and not re.fullmatch(r"[A-Z]{2}", country):
        raise UsageError(f"country {country!r}, expected two capital letters", hint="for example --wifi-country DE")
    if password is None:
        return Wifi(ssid=ssid, country=country)
    if re.fullmatch(r"[0-9A-Fa-f]{64}", password):
        return Wifi(ssid=ssid, key_hex=password.lower(), country=country)
    if not 8 <= len(password) <= 63 or not (password.isascii() and password.isprintable()):
        raise UsageError(
            f"the Wi-Fi password has {len(password)} characters, expected 8 to 63 printable ASCII ones",
            hint="the file holds the password in its first line, and nothing else",
        )
    key = hashlib.pbkdf2_hmac("sha1", password.encode(), ssid.encode(), 4096, 32)
    return Wifi(ssid=ssid, key_hex=key.hex(), country=country)


def connection_text(wifi: Wifi) -> str:
    """The network as a NetworkManager connection (nm-settings-keyfile(5)). It holds the key."""
    # A list of bytes says every name; a plain one is easier to read where it means the same.
    plain = re.fullmatch(r"[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+)*", wifi.ssid) is not None
    ssid = wifi.ssid if plain else "".join(f"{byte};" for byte in wifi.ssid.encode())
    security = "" if wifi.key_hex is None else f"\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={wifi.key_hex}\n"
    return (
        f"[connection]\nid=edgekit-wifi\nuuid={uuid.uuid5(_NAMESPACE, wifi.ssid)}\ntype=wifi\nautoconnect=true\n"
        f"\n[wifi]\nmode=infrastructure\nssid={ssid}\n{security}\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    )


def hosts_text(hosts: str, hostname: str) -> str:
    r"""/etc/hosts with the board's own name at 127.0.1.1, as Debian has it.

    >>> hosts_text("127.0.0.1\tlocalhost\n127.0.1.1\told\n", "new")
    '127.0.0.1\tlocalhost\n127.0.1.1\tnew\n'
    """
    lines = [line for line in hosts.splitlines() if line.split()[:1] != ["127.0.1.1"]]
    return "".join(f"{line}\n" for line in [*lines, f"127.0.1.1\t{hostname}"])


def command_line_with(command_line: str, first_boot: FirstBoot) -> str:
    """The kernel's command line that runs `RUN_ONCE` on the first boot, as Raspberry Pi Imager does it.

    systemd-run-generator(8): with these words only that program is started, and then the board boots again. A line
    that has them already gets them no second time.

    Raises:
        UsageError: Something else is to run on the first boot already.
    """
    words = command_line.split()
    foreign = [word for word in words if word.startswith("systemd.run=") and word != f"systemd.run={RUN_ONCE}"]
    if foreign:
        raise UsageError(
            f"the image is customised already: its cmdline.txt has {foreign[0]}", hint="take the image as released"
        )
    kept = [word for word in words if not _RUN_WORDS.fullmatch(word)]
    wifi = first_boot.wifi
    if wifi is not None and wifi.country is not None:
        kept = [word for word in kept if not word.startswith(_COUNTRY_WORD)] + [f"{_COUNTRY_WORD}{wifi.country}"]
    if first_boot.runs_once:
        kept += [f"systemd.run={RUN_ONCE}", "systemd.run_success_action=reboot"]
        kept += ["systemd.unit=kernel-command-line.target"]
    return " ".join(kept)


def first_run_settings(first_boot: FirstBoot) -> str:
    """The variables that `firstrun.sh` begins with. They hold no secret."""
    user = first_boot.user or (DEFAULT_USER if first_boot.ssh_keys else "")
    return (
        f"user={shlex.quote(user)}\n"
        f"open_ssh={'yes' if first_boot.ssh_keys else ''}\n"
        f"open_wifi={'yes' if first_boot.wifi is not None else ''}\n"
    )
