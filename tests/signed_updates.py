"""A signed repository that a test can twist in every way, a clock that it sets, and a board that asks."""

# python-tuf and securesystemslib offer these classes without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from bundles import plain_contents, with_manifest
from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.config import FetchLimits, UpdateConfig
from edgekit.agent.update.offers import Offer
from edgekit.agent.update.outcome import Outcome, UpdateError
from edgekit.bundle.archive import encode_archive
from edgekit.bundle.manifest import MODEL
from edgekit.bundle.reading import open_bundle
from edgekit.bundle.release import SIGNED_AT_KEY, ReleaseNote, TargetName, encode_note

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.timezone.utc)
BOARD = "raspberry_pi_4b"
BUNDLE_BYTES = 600_000
ROLES = ("root", "targets", "snapshot", "timestamp")
QUICK = FetchLimits(connect_timeout_s=20, silence_s=20, headers_s=20, metadata_s=60, first_wait_s=0.01)


class FakeClock:
    """A clock that a test sets. Waiting takes no time, and is written down."""

    def __init__(self, now: dt.datetime = NOW) -> None:
        self.now = now
        self.passed_s = 0.0
        self.waits: list[float] = []

    def unix_s(self) -> float:
        return self.now.timestamp() + self.passed_s

    def monotonic_s(self) -> float:
        return 1000.0 + self.passed_s

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.passed_s += seconds


def write_ekb(path: Path, release: int = 1, *, name: str = "pets", model: bytes = b"no model" * 40) -> Path:
    """A bundle file; the model's bytes make the content."""
    contents = with_manifest(
        {**plain_contents(), MODEL: model},
        lambda manifest: msgspec.structs.replace(manifest, name=name, release=release),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_archive(contents))
    return path


class SignedRepository:
    """Files of a repository, and every key, so that a test can sign anything.

    Args:
        folder: Where it lies.
        now: When it is signed; everything is good for 30 days, the root for a year.
    """

    def __init__(self, folder: Path, now: dt.datetime = NOW, threshold: int = 1) -> None:
        self.folder = folder
        self.now = now
        self.signers = {role: [CryptoSigner.generate_ed25519() for _ in range(threshold)] for role in ROLES}
        month, year = now + dt.timedelta(days=30), now + dt.timedelta(days=365)
        self.root = Root(version=1, expires=year, consistent_snapshot=True)
        for role in ROLES:
            self.root.roles[role].threshold = threshold
            for signer in self.signers[role]:
                self.root.add_key(signer.public_key, role)
        self.targets = Targets(expires=month)
        self.snapshot = Snapshot(expires=month)
        self.timestamp = Timestamp(expires=month)
        for signed in (self.root, self.targets, self.snapshot, self.timestamp):
            signed.unrecognized_fields[SIGNED_AT_KEY] = int(now.timestamp())
        self.put("root")
        self.publish(is_first=True)

    @property
    def pinned(self) -> bytes:
        """The first root."""
        return (self.folder / "metadata" / "1.root.json").read_bytes()

    def signed(self, role: str) -> Any:
        return {"root": self.root, "targets": self.targets, "snapshot": self.snapshot, "timestamp": self.timestamp}[
            role
        ]

    def encode(self, role: str, signers: Iterable[CryptoSigner] | None = None) -> bytes:
        """A role's metadata, signed by its keys or by others."""
        metadata = Metadata[Any](self.signed(role))
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer())

    def path(self, role: str) -> Path:
        version = "" if role == "timestamp" else f"{self.signed(role).version}."
        return self.folder / "metadata" / f"{version}{role}.json"

    def put(self, role: str, content: bytes | None = None) -> bytes:
        """Write a role's metadata as it is now, or any other content in its place."""
        written = self.encode(role) if content is None else content
        self.path(role).parent.mkdir(parents=True, exist_ok=True)
        self.path(role).write_bytes(written)
        return written

    def publish(self, *, is_first: bool = False, has_hashes: bool = True) -> None:
        """The next version of everything but the root."""
        algorithms = ["sha256"] if has_hashes else []
        for role in ("targets", "snapshot", "timestamp"):
            self.signed(role).version += 0 if is_first else 1
        content = self.put("targets")
        self.snapshot.meta["targets.json"] = _describe(self.targets.version, content, algorithms)
        content = self.put("snapshot")
        self.timestamp.snapshot_meta = _describe(self.snapshot.version, content, algorithms)
        self.put("timestamp")

    def publish_root(self) -> None:
        """The next version of the root."""
        self.root.version += 1
        self.put("root")

    def rotate(self, role: str) -> None:
        """New keys for a role, in a new root."""
        old = self.signers[role]
        for signer in old:
            self.root.revoke_key(signer.public_key.keyid, role)
        self.signers[role] = [CryptoSigner.generate_ed25519() for _ in old]
        for signer in self.signers[role]:
            self.root.add_key(signer.public_key, role)
        self.root.version += 1
        signers = [*self.signers["root"], *(old if role == "root" else [])]
        self.put("root", self.encode("root", signers))

    def add(
        self,
        ekb: Path,
        *,
        channel: str = "stable",
        board: str = BOARD,
        path: str | None = None,
        note: Callable[[ReleaseNote], ReleaseNote] = lambda note: note,
    ) -> TargetFile:
        """Name a bundle in the list, and put its file where boards look for it."""
        bundle = open_bundle(ekb)
        manifest = bundle.manifest
        said = ReleaseNote(name=manifest.name, release=manifest.release, board=board, digest=bundle.digest)
        name = TargetName(channel=channel, board=board, name=manifest.name, release=manifest.release)
        target = TargetFile.from_file(path or name.path, str(ekb), ["sha256"])
        target.unrecognized_fields["custom"] = encode_note(note(said))
        self.targets.targets[target.path] = target
        file = self.target_path(target)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(ekb.read_bytes())
        return target

    def target_path(self, target: TargetFile) -> Path:
        folder, _, name = target.path.rpartition("/")
        return self.folder / "targets" / folder / f"{target.hashes['sha256']}.{name}"

    def release(self, release: int, **options: Any) -> Path:
        """Publish a bundle with this number; gives its file."""
        ekb = write_ekb(self.folder.parent / f"made-{release}.ekb", release, **options)
        self.add(ekb)
        self.publish()
        return ekb


def _describe(version: int, content: bytes, algorithms: list[str]) -> MetaFile:
    return MetaFile.from_data(version, content, algorithms) if algorithms else MetaFile(version)


def make_client(
    url: str, state_dir: Path, clock: FakeClock, pinned: bytes, limits: FetchLimits = QUICK, **changes: Any
) -> UpdateClient:
    """A board that trusts a root."""
    config = UpdateConfig(
        metadata_url=f"{url}/metadata/", targets_url=f"{url}/targets/", board=BOARD, limits=limits, **changes
    )
    client = UpdateClient(config, state_dir, clock)
    client.pin_root(pinned)
    return client


def fetch_fails(client: UpdateClient, offer: Offer, folder: Path) -> Outcome:
    """Download, which must fail; gives how."""
    with pytest.raises(UpdateError) as caught:
        client.fetch(offer, folder)
    return caught.value.outcome
