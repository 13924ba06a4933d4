"""Download one file: checked by its hash, moved into place only when whole, with a bar where somebody watches."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, cast

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from edgekit.core.errors import DataError

_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 60.0


class _RichBar:
    """What `pooch.HTTPDownloader` asks of a progress bar, drawn by rich on stderr."""

    def __init__(self, title: str) -> None:
        self.total = 0
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        self._task = self._progress.add_task(title, total=None)
        self._progress.start()

    def update(self, num_bytes: int) -> None:
        """Move on by `num_bytes`."""
        self._progress.update(self._task, advance=num_bytes, total=self.total or None)

    def reset(self) -> None:
        """Start over: pooch does so before it fills the bar up at the end."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Stop drawing."""
        self._progress.stop()


def download_file(url: str, target: Path, *, sha256: str) -> Path:
    """Download a file to `target`, whole and with the right hash, or not at all.

    Returns:
        `target`.

    Raises:
        DataError: No connection, an HTTP error, a download that broke off, a wrong hash, or a folder that cannot be
            written.
    """
    # Pooch announces downloads through a logger of its own, on stderr, whether or not it is a terminal.
    pooch.get_logger().setLevel(logging.WARNING)
    bar = _RichBar(target.name) if sys.stderr.isatty() else None
    # Pooch's annotations know only bool; its documentation takes any object with update, reset, close and total.
    progressbar = cast("bool", bar or False)
    downloader = pooch.HTTPDownloader(timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S), progressbar=progressbar)
    try:
        pooch.retrieve(
            url, f"sha256:{sha256}", fname=target.name, path=target.parent, downloader=cast("Any", downloader)
        )
    except requests.RequestException as error:
        raise DataError(f"{url}: {_reason(error)}", hint="check the network connection, and try again") from error
    except ValueError as error:
        # Pooch's message holds both hashes over several lines.
        raise DataError(
            f"{url}: the downloaded file is not the expected one ({' '.join(str(error).split())})",
            hint="try again; if it stays so, the file at this address was changed and must not be trusted",
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror or error}", hint="check free space and permissions"
        ) from error
    finally:
        if bar is not None:
            bar.close()
    return target


def _reason(error: requests.RequestException) -> str:
    """Say in a few words what went wrong, without the object names that the library's own messages are full of."""
    if error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the download broke off"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)
