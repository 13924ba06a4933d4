"""One card image and one bundle for all tests of images; both are copied, never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from card_images import CardSpec, make_card, missing_tools, write_bundle_for

BOARDS = ("raspberry_pi_4b", "raspberry_pi_5")


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing_tools():
        pytest.skip(f"needs {', '.join(missing_tools())}")
    return make_card(tmp_path_factory.mktemp("card"), CardSpec())


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle_for(tmp_path_factory.mktemp("bundle") / "pets.ekb", BOARDS)
