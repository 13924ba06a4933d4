"""Keys that cost nothing to open, and a repository to publish into."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from edgekit.deploy.trust.keyring import Keyring
from edgekit.deploy.trust.policy import Policy, RoleName
from edgekit.deploy.trust.publishing import Publication, publish
from edgekit.deploy.trust.sealed_key import ScryptCost
from signed_updates import NOW, write_ekb

CHEAP = ScryptCost(n=2, r=1, p=1)
PASSPHRASE = "correct horse"


class FixedPassphrase:
    """The same for all keys."""

    def __init__(self, text: str = PASSPHRASE) -> None:
        self.text = text
        self.num_asked = 0

    def get(self, role: RoleName, *, is_new: bool) -> str:
        del role, is_new
        self.num_asked += 1
        return self.text


class Workshop:
    """A host that publishes.

    Args:
        folder: For keys, root keys, bundles and the repository.
    """

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self.folder = folder
        self.keys_dir, self.stick, self.www = folder / "keys", folder / "stick", folder / "www"
        self.now = NOW
        Keyring.create(self.keys_dir, FixedPassphrase(), policy or Policy(), NOW, offline_dir=self.stick, cost=CHEAP)

    def keyring(self, *, has_stick: bool = True, passphrase: str = PASSPHRASE) -> Keyring:
        """The keys, opened anew as by another command."""
        offline = self.stick if has_stick else self.folder / "no-stick"
        return Keyring(self.keys_dir, FixedPassphrase(passphrase), offline, CHEAP)

    @property
    def pinned(self) -> bytes:
        return (self.keys_dir / "root" / "1.root.json").read_bytes()

    def pass_days(self, days: float) -> None:
        self.now += dt.timedelta(days=days)

    def bundle(self, release: int, *, model: bytes = b"no model" * 40, name: str = "pets") -> Path:
        return write_ekb(self.folder / f"{name}-{release}.ekb", release, model=model, name=name)

    def publish(self, release: int, *, model: bytes = b"no model" * 40) -> Publication:
        """Make a bundle and publish it."""
        bundle_path = self.bundle(release, model=model)
        return publish(self.www, self.keyring(has_stick=False), self.now, bundle_path=bundle_path)

    def renew(self) -> Publication:
        return publish(self.www, self.keyring(has_stick=False), self.now)
