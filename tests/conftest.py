"""What every test shares: the hypothesis profile, isolation from the user's own files, the shared data folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is imported: networks of tests are tiny, and two threads that wait for each other on a busy machine cost
# minutes. The processes of pytest-xdist use the cores instead.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that runs something in the background tells it to ignore Ctrl-C, and Python then leaves it ignored. The tests
# of Ctrl-C must mean the same there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
