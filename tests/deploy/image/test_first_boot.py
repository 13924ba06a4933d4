"""Settings for the first boot: checked before anything is made of them, and texts that say them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from card_images import COMMAND_LINE
from edgekit.core.errors import UsageError
from edgekit.deploy.image.first_boot import (
    RUN_ONCE,
    FirstBoot,
    check_hostname,
    check_user,
    command_line_with,
    connection_text,
    hosts_text,
    make_wifi,
    parse_ssh_keys,
)

KEY = f"ssh-ed25519 {'A' * 68} maker@home"


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a b", "a" * 64, "kü", "a\n", "$(reboot)"])
def test_host_name_is_refused_when_it_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="host name"):
        check_hostname(name)


@pytest.mark.parametrize("name", ["", "root", "edgekit", "A", "1a", "a b", "a;b", "a/b", "x" * 32])
def test_user_is_refused_when_it_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="user"):
        check_user(name)


def test_names_are_taken_when_they_are_right() -> None:
    assert (check_hostname("kitchen-2"), check_user("maker_1")) == ("kitchen-2", "maker_1")


def test_keys_are_read_without_comments() -> None:
    assert parse_ssh_keys(f"# mine\n\n{KEY}\n{KEY} too\n", "keys") == (KEY, f"{KEY} too")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "private key"),
        ("", "no public SSH key"),
        ("hello\n", "key 1 is no public"),
        (f"{KEY}\nssh-ed25519 short\n", "key 2 is no public"),
    ],
)
def test_keys_are_refused_when_they_are_none(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_ssh_keys(text, "keys")


def test_wifi_key_is_that_of_the_standard() -> None:
    # IEEE 802.11-2016, annex J.4.2, test case 1
    wifi = make_wifi("IEEE", "password")
    assert wifi.key_hex == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"


def test_wifi_key_is_taken_as_it_is_when_it_is_one() -> None:
    assert make_wifi("home", "AB" * 32).key_hex == "ab" * 32


@pytest.mark.parametrize("password", ["", "seven77", "x" * 65, "pässword1", "pass\tword"])
def test_wifi_password_is_refused_without_being_told(password: str) -> None:
    with pytest.raises(UsageError, match="Wi-Fi password") as caught:
        make_wifi("home", password)
    assert not password or password not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("ssid", ["", "x" * 33, "ü" * 17, "a\nb"])
def test_network_name_is_refused_when_it_cannot_be(ssid: str) -> None:
    with pytest.raises(UsageError, match="network name"):
        make_wifi(ssid, None)


def test_wifi_shows_no_key() -> None:
    wifi = make_wifi("home", "secret-password")
    assert wifi.key_hex is not None
    assert wifi.key_hex not in f"{wifi!r} {FirstBoot(wifi=wifi)!r}"


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8))
def test_connection_names_any_network(ssid: str) -> None:
    line = next(line for line in connection_text(make_wifi(ssid, None)).splitlines() if line.startswith("ssid="))
    said = line.removeprefix("ssid=")
    # nm-settings-keyfile(5): a list of decimal bytes, or the name itself
    is_list = said.endswith(";") and all(word.isdecimal() for word in said[:-1].split(";"))
    assert (bytes(map(int, said[:-1].split(";"))) if is_list else said.encode()) == ssid.encode()


def test_open_network_has_no_security() -> None:
    assert "wifi-security" not in connection_text(make_wifi("cafe", None))


def test_hosts_names_the_board_once() -> None:
    assert hosts_text("127.0.0.1 localhost\n127.0.1.1 a b\n", "new") == "127.0.0.1 localhost\n127.0.1.1\tnew\n"


def test_command_line_keeps_what_was_there_and_runs_once() -> None:
    first_boot = FirstBoot(ssh_keys=(KEY,), wifi=make_wifi("home", None, "DE"))
    line = command_line_with(COMMAND_LINE, first_boot)
    assert line.startswith(f"{COMMAND_LINE} cfg80211.ieee80211_regdom=DE systemd.run={RUN_ONCE} ")
    assert "systemd.unit=kernel-command-line.target" in line.split()
    assert command_line_with(line, first_boot) == line


def test_command_line_stays_when_nothing_has_to_run() -> None:
    assert command_line_with(COMMAND_LINE, FirstBoot(hostname="kitchen")) == COMMAND_LINE


def test_command_line_is_refused_when_something_else_runs_first() -> None:
    with pytest.raises(UsageError, match="customised already"):
        command_line_with(f"{COMMAND_LINE} systemd.run=/boot/firstrun.sh", FirstBoot())
