"""Bundles whose models really answer; made once for all tests of the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import write_run
from edgekit.deploy.bundling import BundleRequest, make_bundle


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a tiny int8 network. Not to be changed by a test."""
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """Release 4 of it for the host. Not to be changed by a test."""
    path = tmp_path_factory.mktemp("bundles") / "tiny.ekb"
    make_bundle(BundleRequest(run_dir=tiny_run, boards=("host_cpu",), release=4), path)
    return path
