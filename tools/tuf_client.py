#!/usr/bin/env python
"""The board's update client behind the command line that the public tuf-conformance suite talks to.

    tools/tuf_client.py --metadata-dir DIR init ROOT
    tools/tuf_client.py --metadata-dir DIR --metadata-url URL refresh
    tools/tuf_client.py --metadata-dir DIR --metadata-url URL --target-name NAME --target-base-url URL --target-dir DIR
        download

`--target-name` may be given again: all are looked up in one state of the repository. The time is the machine's, as
`faketime` sets it. Exit code 0 when all of it succeeded, else 1, with the name of the outcome on stderr. The suite
wants nothing but metadata among the `.json` files of the metadata folder; the marks lie in a folder inside it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import urllib.parse
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
if str(REPOSITORY) not in sys.path:  # the suite starts this file from anywhere, in an environment of its own
    sys.path.insert(0, str(REPOSITORY))

from tuf.api.metadata import TargetFile  # noqa: E402  # pyright: ignore[reportPrivateImportUsage]

from edgekit.agent.update.clock import SystemClock  # noqa: E402
from edgekit.agent.update.config import FetchLimits  # noqa: E402
from edgekit.agent.update.download import Download, Wanted  # noqa: E402
from edgekit.agent.update.fetcher import MetadataFetcher  # noqa: E402
from edgekit.agent.update.http import Http  # noqa: E402
from edgekit.agent.update.trusted import Session, TrustedFolder  # noqa: E402
from edgekit.core.errors import EdgekitError, UsageError  # noqa: E402

LIMITS = FetchLimits()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the protocol; return its exit code."""
    parser = argparse.ArgumentParser(description="TUF client of edgekit, for tuf-conformance")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[], dest="target_names")
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    given = parser.parse_args(arguments)
    try:
        if given.command == "init":
            shutil.copyfile(given.trusted_root, given.metadata_dir / "root.json")
        elif given.command == "refresh":
            with opened(given) as session:
                session.refresh()
        else:
            download(given)
    except (EdgekitError, OSError) as error:
        print(f"edgekit: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def opened(given: argparse.Namespace) -> Generator[Session, None, None]:
    """A session on the metadata folder."""
    folder: Path = given.metadata_dir
    trusted, clock = TrustedFolder(folder, folder / "marks" / "marks.json"), SystemClock()
    with trusted.stage() as staging:
        fetcher = MetadataFetcher(Http(clock, LIMITS), clock, LIMITS)
        yield Session(trusted, staging, fetcher, given.metadata_url, clock)


def download(given: argparse.Namespace) -> None:
    """Refresh, look each target up, and download it unless it is there already."""
    if given.target_dir is None or not given.target_names:
        raise UsageError("download needs --target-name, --target-base-url and --target-dir")
    with opened(given) as session:
        session.refresh()
        for name in given.target_names:
            target = session.find(name)
            if target is None:
                raise UsageError(f"no target {name!r}")
            url = target_url(given.target_base_url, target, has_hash=session.has_consistent_snapshots)
            clock = SystemClock()
            wanted = Wanted(url=url, size_bytes=target.length, hashes=dict(target.hashes))
            Download(Http(clock, LIMITS), clock, LIMITS).run(wanted, target_file(given.target_dir, name))


def target_url(base: str, target: TargetFile, *, has_hash: bool) -> str:
    """Where a target lies (TUF specification, 6.2)."""
    folder, slash, file_name = target.path.rpartition("/")
    prefix = next(iter(target.hashes.values())) + "." if has_hash else ""
    return f"{base.rstrip('/')}/{folder}{slash}{prefix}{file_name}"


def target_file(folder: Path, name: str) -> Path:
    """Where a target is stored: one file per name, never outside the folder.

    Raises:
        UsageError: The name would be the folder itself, or the one above.
    """
    quoted = urllib.parse.quote(name, safe="")
    if quoted in {"", ".", ".."}:
        raise UsageError(f"target {name!r} has no file name")
    return folder / quoted


if __name__ == "__main__":
    sys.exit(main())
