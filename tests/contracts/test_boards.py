"""What every board file promises. A new one needs no test here."""

from __future__ import annotations

import re

import pytest

from edgekit.core.board import HOST_BOARD, Board, list_boards, load_board, match_board

ISSUED = {
    "host_cpu", "raspberry_pi_zero_2_w", "raspberry_pi_3b_plus", "raspberry_pi_4b", "raspberry_pi_5", "jetson_nano",
    "jetson_orin_nano",
}  # fmt: skip
RUNTIMES = {"ai-edge-litert", "onnxruntime", "tflite-runtime"}
CAMERAS = {"v4l2", "picamera2", "argus"}


@pytest.fixture(params=list_boards())
def board(request: pytest.FixtureRequest) -> Board:
    return load_board(request.param)


@pytest.fixture(params=[name for name in list_boards() if name != HOST_BOARD])
def described(request: pytest.FixtureRequest) -> Board:
    """A board of a known kind; the host stands for any machine."""
    return load_board(request.param)


def test_catalogue_holds_the_promised_boards() -> None:
    assert set(list_boards()) >= ISSUED


def test_title_is_one_line(board: Board) -> None:
    assert board.facts.title.strip() == board.facts.title
    assert 0 < len(board.facts.title) <= 60


def test_board_is_told_by_its_own_model_alone(described: Board) -> None:
    boards = tuple(load_board(name) for name in list_boards())

    assert described.facts.device_tree_models
    for beginning in described.facts.device_tree_models:
        assert match_board(f"{beginning} Rev 1.0", boards) == described.name


def test_size_is_known(described: Board) -> None:
    facts = described.facts
    assert facts.arch in {"aarch64", "x86_64"}
    assert facts.cores is not None
    assert 1 <= facts.cores <= 64
    assert facts.memory_mib is not None
    assert facts.memory_mib >= 256


def test_every_system_has_a_python_that_edgekit_runs_on_and_a_runtime(described: Board) -> None:
    assert described.facts.systems
    for system in described.facts.systems:
        major, minor = (int(part) for part in (system.needs_python or system.python).split("."))
        assert (3, 10) <= (major, minor) <= (3, 13)
        assert (system.needs_python is not None) == (int(system.python.split(".")[1]) < 10)
        assert set(system.runtimes) <= RUNTIMES
        assert {"ai-edge-litert", "onnxruntime"} & set(system.runtimes)
        assert all(re.fullmatch(r"\d+(\.\d+){1,2}", version) for version in system.runtimes.values())


def test_camera_is_sensible(board: Board) -> None:
    camera = board.facts.camera
    assert camera is not None
    assert camera.kind in CAMERAS
    assert camera.source
    assert camera.width >= camera.height > 0
    assert 1 <= camera.fps <= 120


def test_facts_name_places(described: Board) -> None:
    facts = described.facts.facts
    assert facts.thermal_zones
    assert facts.throttled_words or facts.throttling_devices
    for path in (*facts.throttled_words, *facts.power_monitors):
        assert path.startswith("/sys/")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry_pi_zero_2_w"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "raspberry_pi_3b_plus"),
        ("Raspberry Pi 3 Model B Rev 1.2", "host_cpu"),
        ("Raspberry Pi 4 Model B Rev 1.5", "raspberry_pi_4b"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry_pi_5"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson_nano"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "jetson_orin_nano"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson_orin_nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "host_cpu"),
    ],
)
def test_models_of_real_boards_are_known(model: str, name: str) -> None:
    assert match_board(model, tuple(load_board(board) for board in list_boards())) == name
