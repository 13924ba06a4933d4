"""Which class a user means."""

from __future__ import annotations

import pytest

from edgekit.core.errors import UsageError
from edgekit.explain.classes import class_name, find_class

BIRDS = ("tench, Tinca tinca", "crane (bird)", "crane (machine)", "7", "Ankle boot")


def test_classes_are_found_by_name_synonym_and_number() -> None:
    assert find_class("Ankle boot", BIRDS, 5) == 4
    assert find_class("ankle BOOT", BIRDS, 5) == 4
    assert find_class("tench", BIRDS, 5) == find_class("tinca TINCA", BIRDS, 5) == 0
    assert find_class("crane (machine)", BIRDS, 5) == 2
    assert find_class("1", BIRDS, 5) == 1
    assert find_class("7", BIRDS, 5) == 3  # a name goes before a number
    assert find_class("3", (), 5) == 3


def test_ambiguous_name_asks_for_the_number() -> None:
    with pytest.raises(UsageError, match="2 classes are called 'crane': 1, 2") as caught:
        find_class("crane", BIRDS, 5)
    assert caught.value.hint == "give the number"


@pytest.mark.parametrize(
    ("wanted", "labels", "num_classes", "hint"),
    [
        ("ankel boot", BIRDS, 5, "did you mean 'Ankle boot'?"),
        ("5", BIRDS, 5, "choose one of: tench, Tinca tinca, "),
        ("-1", (), 1000, "from 0 to 999"),
        ("", BIRDS, 5, "choose one of"),
    ],
)
def test_unknown_class_is_an_error_with_a_hint(
    wanted: str, labels: tuple[str, ...], num_classes: int, hint: str
) -> None:
    with pytest.raises(UsageError, match=f"no class {wanted!r} among the model's {num_classes}") as caught:
        find_class(wanted, labels, num_classes)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_classes_without_names_are_numbered() -> None:
    assert class_name(("a",), 0) == "a"
    assert class_name((), 3) == "class 3"
