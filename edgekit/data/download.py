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
_BLOCK_SIZE = 1 << 16


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
    # Pooch's annotations ask for other parameter names than those by which it calls.
    downloader = cast("Any", _fetch)
    try:
        pooch.retrieve(url, f"sha256:{sha256}", fname=target.name, path=target.parent, downloader=downloader)
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
    return target


def _fetch(url: str, output_path: str, _pooch: object) -> None:
    """Download to a file, for pooch, whose own downloader leaves the connection open when a download breaks off."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    )
    with requests.get(url, stream=True, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)) as response, bar:
        response.raise_for_status()
        announced = response.headers.get("Content-Length", "")
        task = bar.add_task(url.rsplit("/", 1)[-1], total=int(announced) if announced.isdecimal() else None)
        with Path(output_path).open("wb") as output:
            for block in response.iter_content(_BLOCK_SIZE):
                output.write(block)
                bar.advance(task, len(block))


def _reason(error: requests.RequestException) -> str:
    """Say in a few words what went wrong, without the object names that the library's own messages are full of."""
    if error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the download broke off"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or it was lost"
    return str(error)
