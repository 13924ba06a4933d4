"""Releases to install, made once, and a trial that answers at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.bundle.reading import open_bundle
from install_bundles import write_tiny_bundle
from installs import Releases


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Releases 1, 2 and 3 of one name. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("releases")
    paths = tuple(write_tiny_bundle(folder, release) for release in (1, 2, 3))
    return Releases(paths=paths, digests=tuple(open_bundle(path).digest for path in paths))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with nothing in it."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder
