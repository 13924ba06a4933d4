from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.board import HOST_BOARD, Board, BoardFacts, list_boards, load_board, match_board
from edgekit.core.errors import IntegrityError, UnknownNameError
from edgekit.runtime.board import detect_board


@pytest.mark.parametrize("name", list_boards())
def test_every_board_file_loads(name: str) -> None:
    assert load_board(name).facts.title


def test_host_board_exists_and_matches_nothing_by_itself() -> None:
    assert HOST_BOARD in list_boards()
    assert load_board(HOST_BOARD).facts.device_tree_models == ()


def test_detect_board_is_the_host_when_there_is_no_device_tree(tmp_path: Path) -> None:
    assert detect_board(tmp_path / "absent").name == HOST_BOARD


def test_detect_board_is_the_host_when_no_file_describes_the_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"Unheard-of Board Rev 9\0")
    assert detect_board(model).name == HOST_BOARD


def test_match_board_prefers_the_longest_beginning() -> None:
    boards = tuple(
        Board(name=name, facts=BoardFacts(title=name, device_tree_models=(prefix,)))
        for name, prefix in (("pi_3b", "Raspberry Pi 3 Model B"), ("pi_3b_plus", "Raspberry Pi 3 Model B Plus"))
    )
    assert match_board("Raspberry Pi 3 Model B Plus Rev 1.3", boards) == "pi_3b_plus"
    assert match_board("Raspberry Pi 3 Model B Rev 1.2", boards) == "pi_3b"


def test_load_board_suggests_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_board("host_cpus")
    assert caught.value.suggestion == HOST_BOARD


@pytest.mark.parametrize("content", ["title = ", 'title = "x"\nsurprise = 1', "", "title = 3", "\xff"])
def test_load_board_names_the_file_when_it_is_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd.toml").write_text(content, encoding="latin-1")
    with pytest.raises(IntegrityError, match=r"odd\.toml"):
        load_board("odd", tmp_path)
