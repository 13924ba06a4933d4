"""What every test shares: the hypothesis profile, isolation from the user's own files, the shared data folder."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before torch is imported: networks of tests are tiny, and two threads that wait for each other on a busy machine cost
# minutes. The processes of pytest-xdist use the cores instead.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that runs something in the background tells it to ignore Ctrl-C, and Python then leaves it ignored. The tests
# of Ctrl-C must mean the same there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BROWSER_PATIENCE_MS = 120_000
"""Machines are shared: a browser that is slow to answer is no failure."""

REPOSITORY = Path(__file__).resolve().parent.parent

# The same examples in every run, and no deadline: machines are shared and noisy.
settings.register_profile("ci", derandomize=True, deadline=None)
# More and new examples, for hunting: HYPOTHESIS_PROFILE=hunt make fast
settings.register_profile("hunt", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def isolated_user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's datasets, cache and settings out of the tests, and the tests out of them."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{name}_HOME", str(folder / name.lower()))
        patch.delenv("EDGEKIT_DATA", raising=False)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real datasets and third-party models, beside the repository; the test is skipped without it."""
    folder = Path(os.environ.get("EDGEKIT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no ../shared/data (or $EDGEKIT_TEST_DATA)")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser without a window; the test is skipped without one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no chromium on the PATH")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"], timeout=BROWSER_PATIENCE_MS
        )
        yield running
        running.close()
