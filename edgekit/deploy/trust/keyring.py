"""The folder with the keys: what `edgekit keys` makes and changes.

KEYS/keyring.json            policy, and what was published last
KEYS/root/1.root.json ...    every root, signed; the first is what boards are given
KEYS/private/ROLE-ID.key     sealed keys of targets, snapshot and timestamp
KEYS/offline/root-ID.key     sealed root keys, or in another folder (a stick)
"""

# python-tuf and securesystemslib offer these classes without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import re
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from securesystemslib.signer import CryptoSigner, Key

from edgekit.core.errors import IntegrityError, OutputError, UsageError
from edgekit.core.storage import write_bytes
from edgekit.deploy.trust.policy import ROLES, KeyringSettings, Policy, Published, RoleName
from edgekit.deploy.trust.roots import make_root, next_root, read_root, sign
from edgekit.deploy.trust.sealed_key import (
    SUFFIX,
    PassphraseSource,
    ScryptCost,
    generate,
    read_sealed,
    seal,
    unseal,
    write_private,
)

if TYPE_CHECKING:
    from tuf.api.metadata import Root

SETTINGS, PRIVATE_DIR, OFFLINE_DIR, ROOT_DIR = "keyring.json", "private", "offline", "root"
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


class Keyring:
    """Keys and their history.

    Args:
        folder: Made by `create`.
        passphrases: Where passphrases come from; asked only when a key has to be opened.
        offline_dir: Where the root keys are; None for `offline` in the folder.
        cost: Of sealing new keys; None for the usual one.

    Raises:
        UsageError: No keyring there.
        IntegrityError: Its files do not fit together.
    """

    def __init__(
        self,
        folder: Path,
        passphrases: PassphraseSource,
        offline_dir: Path | None = None,
        cost: ScryptCost | None = None,
    ) -> None:
        self.folder = folder
        self._passphrases = passphrases
        self._offline_dir = offline_dir or folder / OFFLINE_DIR
        self._cost = cost
        self.settings = _read_settings(folder / SETTINGS)
        self.roots = self._read_roots()
        self._opened: dict[str, CryptoSigner] = {}
        self._passphrase: dict[str, str] = {}

    @classmethod
    def create(
        cls,
        folder: Path,
        passphrases: PassphraseSource,
        policy: Policy,
        now: dt.datetime,
        *,
        offline_dir: Path | None = None,
        cost: ScryptCost | None = None,
    ) -> Keyring:
        """Make keys for all roles and the first root.

        Raises:
            UsageError: There is a keyring already, or the policy cannot be.
            OutputError: It cannot be written.
        """
        policy.check()
        if (folder / SETTINGS).exists() or any((folder / ROOT_DIR).glob("*")):
            raise UsageError(f"{folder} holds keys already", hint="choose another folder; keys are never overwritten")
        signers: dict[RoleName, list[CryptoSigner]] = {
            role: [generate() for _ in range(policy.role(role).num_keys)] for role in ROLES
        }
        for role in ROLES:
            passphrase = passphrases.get(role, is_new=True)
            place = (offline_dir or folder / OFFLINE_DIR) if role == "root" else folder / PRIVATE_DIR
            for signer in signers[role]:
                write_private(_key_path(place, role, signer), seal(signer, role, passphrase, cost))
        keys: dict[RoleName, list[Key]] = {role: [signer.public_key for signer in signers[role]] for role in ROLES}
        content = sign(make_root(keys, policy, now), signers["root"])
        write_bytes(folder / ROOT_DIR / "1.root.json", content)
        _write_settings(folder / SETTINGS, KeyringSettings(policy=policy))
        return cls(folder, passphrases, offline_dir, cost)

    @property
    def root(self) -> Root:
        """The newest root."""
        return self.roots[-1]

    def root_content(self, version: int) -> bytes:
        """A root's file, as it was signed."""
        return (self.folder / ROOT_DIR / f"{version}.root.json").read_bytes()

    def rotate(self, role: RoleName, key_ids: Iterable[str], now: dt.datetime) -> tuple[str, ...]:
        """Give a role new keys for some of its own; the old ones sign once more with them, at the next publication.

        Args:
            role: Whose.
            key_ids: Which; none for all of them.
            now: The time.

        Returns:
            Ids of the new keys.

        Raises:
            UsageError: A key that the role does not have, or root keys that are not there.
        """
        old = self._of_role(role, key_ids)
        new = [generate() for _ in old]
        self._write_next(now, [(role, signer) for signer in new], old)
        return tuple(signer.public_key.keyid for signer in new)

    def revoke(self, key_id: str, now: dt.datetime) -> tuple[str, ...]:
        """Take a key away at once, and put a new one in its place: it is lost, or somebody else has it.

        Raises:
            UsageError: No such key, or root keys that are not there.
        """
        full = self.find_key(key_id)
        roles: list[RoleName] = [role for role in ROLES if full in self.root.roles[role].keyids]
        new: list[tuple[RoleName, CryptoSigner]] = []
        for role in roles:
            new.append((role, generate()))  # noqa: PERF401 - a comprehension would forget that these are names of roles
        self._write_next(now, new, [full], without=full)
        for path in self._key_paths():
            if path.stem.endswith(full[:8]):
                path.unlink()
        return tuple(signer.public_key.keyid for _, signer in new)

    def renew(self, now: dt.datetime) -> None:
        """A new root with the same keys and a new date.

        Raises:
            UsageError: Root keys that are not there.
        """
        self._write_next(now, [], [])

    def find_key(self, beginning: str) -> str:
        """The id of a key in the newest root, by its first characters.

        Raises:
            UsageError: None, or several.
        """
        found = [key_id for key_id in self.root.keys if key_id.startswith(beginning)]
        if len(found) != 1 or not beginning:
            raise UsageError(f"{len(found)} keys begin with {beginning!r}", hint="edgekit keys show lists them")
        return found[0]

    def signers(self, key_ids: Iterable[str], role: RoleName) -> list[CryptoSigner]:
        """Those keys of a role that are here, opened.

        Raises:
            UsageError: A passphrase that does not fit.
        """
        wanted = set(key_ids)
        for path in self._key_paths():
            if not path.name.startswith(f"{role}-"):
                continue
            sealed = read_sealed(path)
            if sealed.key_id in wanted and sealed.key_id not in self._opened:
                self._opened[sealed.key_id] = unseal(sealed, self._passphrase_of(role), path)
        return [self._opened[key_id] for key_id in sorted(wanted) if key_id in self._opened]

    def has_private(self, key_id: str) -> bool:
        """Whether a key's private half is here, sealed."""
        return any(read_sealed(path).key_id == key_id for path in self._key_paths())

    def note_published(self, published: Published) -> None:
        """Remember what was published, and remove retired keys: everything that is out there is signed by newer ones.

        Raises:
            OutputError: It cannot be written.
        """
        self.settings = msgspec.structs.replace(self.settings, published=published)
        _write_settings(self.folder / SETTINGS, self.settings)
        for path in self._key_paths():
            if path.parent == self.folder / PRIVATE_DIR and read_sealed(path).key_id not in self.root.keys:
                path.unlink()

    @contextlib.contextmanager
    def locked(self) -> Generator[None, None, None]:
        """One process at a time.

        Raises:
            UsageError: Another one is at work.
        """
        # the folder, not the file: the file is replaced while it is locked
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise UsageError(f"another edgekit works with {self.folder}", hint="wait until it is done") from error
        finally:
            os.close(descriptor)

    def _of_role(self, role: RoleName, key_ids: Iterable[str]) -> list[str]:
        own = list(self.root.roles[role].keyids)
        asked = [self.find_key(key_id) for key_id in key_ids]
        for key_id in asked:
            if key_id not in own:
                raise UsageError(f"key {key_id[:8]} is none of role {role}", hint="edgekit keys show lists them")
        return asked or own

    def _write_next(
        self,
        now: dt.datetime,
        added: list[tuple[RoleName, CryptoSigner]],
        removed: list[str],
        without: str | None = None,
    ) -> None:
        """Sign and write the next root; new keys first, so that no root names a key that was never written."""
        keys: list[tuple[RoleName, Key]] = [(role, signer.public_key) for role, signer in added]
        root = next_root(self.root, self.settings.policy, now, keys, removed)
        ids = set(self.root.roles["root"].keyids) - {without}
        signers = [*self.signers(ids, "root"), *(signer for role, signer in added if role == "root")]
        content = sign(root, signers)
        try:
            read_root(content, f"root version {root.version}", self.root)
        except IntegrityError as error:
            raise UsageError(
                f"not enough root keys at {self._offline_dir}: {error.message}",
                hint=f"name the folder that has them: --root-keys DIR ({error.hint})",
            ) from error
        for role, signer in added:
            place = self._offline_dir if role == "root" else self.folder / PRIVATE_DIR
            content_of_key = seal(signer, role, self._passphrase_of(role), self._cost)
            write_private(_key_path(place, role, signer), content_of_key)
        write_bytes(self.folder / ROOT_DIR / f"{root.version}.root.json", content)
        self.roots.append(root)

    def _passphrase_of(self, role: RoleName) -> str:
        kind = "root" if role == "root" else "targets"
        if kind not in self._passphrase:
            self._passphrase[kind] = self._passphrases.get(role, is_new=False)
        return self._passphrase[kind]

    def _key_paths(self) -> list[Path]:
        return sorted([*(self.folder / PRIVATE_DIR).glob(f"*{SUFFIX}"), *self._offline_dir.glob(f"*{SUFFIX}")])

    def _read_roots(self) -> list[Root]:
        folder = self.folder / ROOT_DIR
        matches = [_ROOT_FILE.fullmatch(path.name) for path in folder.glob("*.json")]
        versions = sorted(int(match[1]) for match in matches if match)
        if versions != list(range(1, len(versions) + 1)) or not versions:
            raise IntegrityError(f"{folder} has root versions {versions}, expected all from 1 on")
        roots: list[Root] = []
        for version in versions:
            previous = roots[-1] if roots else None
            roots.append(read_root(self.root_content(version), str(folder / f"{version}.root.json"), previous))
        return roots


def _key_path(folder: Path, role: RoleName, signer: CryptoSigner) -> Path:
    return folder / f"{role}-{signer.public_key.keyid[:8]}{SUFFIX}"


def _read_settings(path: Path) -> KeyringSettings:
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeyringSettings)
    except OSError as error:
        raise UsageError(
            f"no keyring at {path.parent}: {error.strerror or error}", hint="edgekit keys init makes one"
        ) from error
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path}: {error}") from error


def _write_settings(path: Path, settings: KeyringSettings) -> None:
    try:
        write_bytes(path, msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
