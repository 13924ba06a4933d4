"""Names of published bundles, and what the signed list says of them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle.release import (
    NOTE_KEY,
    ReleaseNote,
    TargetName,
    check_channel,
    encode_note,
    parse_target_path,
    read_note,
)
from edgekit.core.errors import IntegrityError, UsageError

NAME = TargetName(channel="stable", board="raspberry_pi_4b", name="pets", release=4)
NOTE = ReleaseNote(name="pets", release=4, board="raspberry_pi_4b", digest="ab" * 32)

names = st.builds(
    TargetName,
    channel=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True),
    board=st.from_regex(r"[a-z0-9][a-z0-9_]{0,63}", fullmatch=True),
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,127}", fullmatch=True),
    release=st.integers(0, 2**53 - 1),
)


@given(names)
def test_name_comes_back_from_its_path(name: TargetName) -> None:
    assert parse_target_path(name.path) == name


@given(st.one_of(st.text(), st.text(alphabet="stable/rp.-0123456789ekb_\x00\\%", max_size=40)))
def test_path_is_refused_or_is_one_that_stays_in_its_folder(text: str) -> None:
    try:
        name = parse_target_path(text)
    except IntegrityError:
        return
    assert name.path == text
    assert not any(part.startswith(".") for part in PurePosixPath(text).parts)
    assert len(PurePosixPath(text).parts) == 3


def test_note_comes_back() -> None:
    assert read_note(encode_note(NOTE), NAME) == NOTE


@pytest.mark.parametrize(
    "custom",
    [
        None,
        {},
        [],
        "text",
        {NOTE_KEY: {}},
        {NOTE_KEY: None},
        {NOTE_KEY: {**encode_note(NOTE)[NOTE_KEY], "more": 1}},
        {NOTE_KEY: {**encode_note(NOTE)[NOTE_KEY], "digest": "AB" * 32}},
        {NOTE_KEY: {**encode_note(NOTE)[NOTE_KEY], "version": 2}},
        {NOTE_KEY: {**encode_note(NOTE)[NOTE_KEY], "release": 5}},
    ],
)
def test_note_of_another_form_is_refused(custom: Any) -> None:
    with pytest.raises(IntegrityError):
        read_note(custom, NAME)


@pytest.mark.parametrize("channel", ["", ".", "..", "a/b", "A", "x" * 33, "ü"])
def test_channel_that_is_no_name_is_refused(channel: str) -> None:
    with pytest.raises(UsageError):
        check_channel(channel)
