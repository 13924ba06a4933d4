"""The list of boards: a file that people may edit, and that several commands may change at once."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.address import Address
from edgekit.core.errors import EdgekitError, IntegrityError, UnknownNameError, UsageError
from edgekit.fleet.inventory import (
    INVENTORY,
    Device,
    Inventory,
    change_inventory,
    encode_inventory,
    load_inventory,
)

KITCHEN = Device(name="kitchen", host="kitchen.local", user="pi", group="home", board="raspberry_pi_4b")
HALL = Device(name="hall", host="10.0.0.7", port=2222, group="home")

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)


devices = st.builds(
    Device,
    name=names,
    host=names.filter(lambda host: host[-1] not in ".-"),
    port=st.integers(1, 65535),
    user=st.none() | st.just("pi"),
    group=st.none() | names,
)


@given(st.lists(devices, unique_by=(lambda one: one.name, lambda one: (one.host.lower(), one.port))))
def test_inventory_is_read_as_it_was_written(listed: list[Device]) -> None:
    inventory = Inventory()
    for device in listed:
        inventory = inventory.put(device)

    assert len(inventory.devices) == len(listed)
    assert msgspec.toml.decode(encode_inventory(inventory), type=Inventory) == inventory


def test_inventory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert load_inventory(tmp_path) == Inventory()


def test_change_is_written_for_people_and_for_the_next_reader(tmp_path: Path) -> None:
    change_inventory(tmp_path, lambda inventory: inventory.put(KITCHEN).put(HALL))

    text = (tmp_path / INVENTORY).read_text("utf-8")
    assert '[[devices]]\nname = "hall"\nhost = "10.0.0.7"\nport = 2222\ngroup = "home"\n' in text
    assert load_inventory(tmp_path).devices == (HALL, KITCHEN)


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    def add(number: int) -> None:
        device = Device(name=f"board{number}", host=f"10.0.0.{number}")
        change_inventory(tmp_path, lambda inventory: inventory.put(device))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(load_inventory(tmp_path).devices) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = 1\n[[devices]]\nname = 3\n", "Expected `str`"),
        ("version = 1\ncolour = 'red'\n", "unknown field"),
        ("no toml [", INVENTORY),
        ("version = 2\n", "has version 2"),
        ('[[devices]]\nname = "a"\nhost = "x"\n[[devices]]\nname = "a"\nhost = "y"\n', "names a twice"),
        ('[[devices]]\nname = "a b"\nhost = "x"\n', "is no device name"),
        ('[[devices]]\nname = "a"\nhost = "-oProxyCommand=id"\n', "is no"),
        ('[[devices]]\nname = "a"\nhost = "x"\nport = 0\n', "is no"),
        ('[[devices]]\nname = "a"\nhost = "pi@x"\n', "is no"),
    ],
)
def test_damaged_file_is_an_error_that_names_it_and_is_not_overwritten(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / INVENTORY
    path.write_text(text, encoding="utf-8")

    with pytest.raises(IntegrityError, match=words):
        change_inventory(tmp_path, lambda inventory: inventory.put(KITCHEN))
    assert path.read_text("utf-8") == text


def test_two_names_for_one_address_are_refused() -> None:
    twin = Device(name="cuisine", host="KITCHEN.local", user="root")

    with pytest.raises(UsageError, match="in the list already, as kitchen"):
        Inventory().put(KITCHEN).put(twin)


def test_names_and_groups_are_found_or_the_nearest_is_named() -> None:
    inventory = Inventory().put(KITCHEN).put(HALL)

    assert inventory.at(Address(host="Kitchen.local", user="root")) == KITCHEN
    assert inventory.group("home") == (HALL, KITCHEN)
    with pytest.raises(UnknownNameError) as caught:
        inventory.get("kitchn")
    assert caught.value.suggestion == "kitchen"
    with pytest.raises(UnknownNameError, match="unknown group"):
        inventory.group("garden")
    with pytest.raises(EdgekitError, match="the list of boards has none"):
        Inventory().get("kitchen")


def test_free_name_is_the_host_and_then_counts() -> None:
    inventory = Inventory().put(KITCHEN)

    assert inventory.free_name("kitchen.lan") == "kitchen-2"
    assert inventory.free_name("fe80::1%eth0") == "fe80-1-eth0"
