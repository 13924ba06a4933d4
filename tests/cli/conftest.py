"""A user's model and pictures, and the run that comes of them; made once for all tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_network import COLOURS, QUICK, paint, write_network, write_wide_network
from command_line import Outcome, edgekit


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of class folders, 60 pictures each."""
    folder = tmp_path_factory.mktemp("pictures") / "colours"
    for label, (name, rgb) in enumerate(COLOURS.items()):
        for index in range(60):
            paint(folder / name / f"{name}{index}.png", rgb, seed=1000 * label + index)
    return folder


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with open batch."""
    return write_network(tmp_path_factory.mktemp("network") / "colours.onnx")


@pytest.fixture(scope="session")
def compressed(tmp_path_factory: pytest.TempPathFactory, network: Path, colours: Path) -> tuple[Path, Outcome]:
    """Run folder and outcome of `compress colours.onnx --data colours --json`."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    outcome = edgekit("compress", network, "--data", colours, "--out", run_dir, "--json", *QUICK)
    assert outcome.code == 0, outcome.err
    return run_dir, outcome


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's ONNX file whose size is that of its weights."""
    return write_wide_network(tmp_path_factory.mktemp("network") / "wide.onnx")


@pytest.fixture(scope="session")
def bit_runs(tmp_path_factory: pytest.TempPathFactory, wide: Path, colours: Path) -> dict[str, tuple[Path, Outcome]]:
    """Runs at 8, 6 and 4 bits."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, tuple[Path, Outcome]] = {}
    for bits in ("8", "6", "4"):
        run_dir = folder / bits
        outcome = edgekit("compress", wide, "--data", colours, "--bits", bits, "--out", run_dir, "--json", *QUICK)
        assert outcome.code == 0, outcome.err
        made[bits] = run_dir, outcome
    return made
