"""Toy datasets that `edgekit.train` finds by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from toy_pictures import write_mnist


@pytest.fixture
def toy_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset of the catalogue with 96 training and 40 test pictures."""
    write_mnist(tmp_path / "data", num_train=96, num_test=40)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))
    return "mnist"
