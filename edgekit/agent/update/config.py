"""Where a board looks for updates, and how much of its time, memory and data volume that may cost."""

from __future__ import annotations

import urllib.parse

import msgspec

from edgekit.bundle.archive import MAX_ARCHIVE_BYTES
from edgekit.bundle.release import check_channel
from edgekit.core.errors import UsageError


class FetchLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server may cost.

    Args:
        connect_timeout_s: To be connected, for each address of a host.
        silence_s: Longest wait for the next byte.
        headers_s: To have sent all headers, however it spreads them.
        metadata_s: All metadata of one refresh together.
        min_bytes_per_s: Slowest download; judged over each `silence_s`.
        metadata_bytes: All metadata of one refresh together.
        overhead: A download may cost this many times its size over all attempts; 2 leaves room for one start from
            the beginning.
        num_redirects: In a row.
        num_stalls: Attempts in a row that bring nothing.
        first_wait_s: Before the second of them; doubles with each.
    """

    connect_timeout_s: float = 10.0
    silence_s: float = 30.0
    headers_s: float = 30.0
    metadata_s: float = 180.0
    min_bytes_per_s: float = 256.0
    metadata_bytes: int = 16 * 1024 * 1024
    overhead: float = 2.0
    num_redirects: int = 4
    num_stalls: int = 4
    first_wait_s: float = 1.0


class UpdateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where updates come from.

    Args:
        metadata_url: Folder of the repository's metadata, http or https.
        targets_url: Folder of its bundles.
        board: Board id.
        channel: Which stream of releases.
        name: Name of the bundle to follow; None when the channel has one name only for this board.
        max_bundle_bytes: Largest bundle that is downloaded.
        limits: What a server may cost.
    """

    metadata_url: str
    targets_url: str
    board: str
    channel: str = "stable"
    name: str | None = None
    max_bundle_bytes: int = MAX_ARCHIVE_BYTES
    limits: FetchLimits = FetchLimits()

    def check(self) -> None:
        """Check what no type can say.

        Raises:
            UsageError: An address that is none, or a channel that is no name.
        """
        check_channel(self.channel)
        for url in (self.metadata_url, self.targets_url):
            try:
                parts = urllib.parse.urlsplit(url)
                is_fit = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            except ValueError:
                is_fit = False
            if not is_fit:
                raise UsageError(f"update address {url!r} is none, expected http://HOST/... or https://HOST/...")


class UpdateSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where updates come from, as an agent's configuration says it.

    Args:
        url: Folder that `edgekit publish` wrote, as a web server shows it.
        channel: Which stream of releases.
        name: Name of the bundle to follow; None when the channel has one name only for this board.
    """

    url: str
    channel: str = "stable"
    name: str | None = None

    def resolve(self, board: str) -> UpdateConfig:
        """The whole of it, for a board id."""
        base = self.url.rstrip("/")
        return UpdateConfig(
            metadata_url=f"{base}/metadata/",
            targets_url=f"{base}/targets/",
            board=board,
            channel=self.channel,
            name=self.name,
        )
