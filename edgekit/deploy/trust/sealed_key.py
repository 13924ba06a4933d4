"""A private key at rest: ed25519, sealed with AES-256-GCM under a key that scrypt makes of a passphrase.

scrypt (RFC 7914) costs whoever guesses passphrases memory as well as time, 64 MiB for each guess here; the ciphers that
PKCS #8 files get from common libraries do not. What the file says in clear (role, key id) is sealed along with it.
"""

# python-tuf and securesystemslib offer these classes without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from edgekit.core.errors import IntegrityError, OutputError, UsageError
from edgekit.deploy.trust.policy import RoleName

SUFFIX = ".key"
MIN_PASSPHRASE = 8
_MAX_COST = 1 << 20


class PassphraseSource(Protocol):
    """Where passphrases come from."""

    def get(self, role: RoleName, *, is_new: bool) -> str:
        """The passphrase of a role's keys.

        Args:
            role: Whose.
            is_new: It is being chosen, not checked.

        Raises:
            UsageError: There is nobody to ask and no file or variable that says.
        """
        ...


class ScryptCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a guess costs: memory is 128 n r bytes.

    Args:
        n: Rounds, a power of two.
        r: Block size.
        p: Repetitions.
    """

    n: int = 1 << 16
    r: int = 8
    p: int = 1


USUAL_COST = ScryptCost()


class SealedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file.

    Args:
        role: Which the key signs for.
        key_id: As TUF counts it.
        cost: Of scrypt.
        salt: Of scrypt.
        nonce: Of AES-GCM.
        sealed: The 32 bytes of the private key, and the tag.
        version: Of this format.
    """

    role: str
    key_id: str
    cost: ScryptCost
    salt: bytes
    nonce: bytes
    sealed: bytes
    version: int = 1


def generate() -> CryptoSigner:
    """A new ed25519 key."""
    return CryptoSigner.generate_ed25519()


def seal(signer: CryptoSigner, role: RoleName, passphrase: str, cost: ScryptCost | None = None) -> bytes:
    """The bytes of a key file.

    Raises:
        UsageError: The passphrase is too short, or the key is of another kind.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise UsageError(f"the passphrase has {len(passphrase)} characters, at least {MIN_PASSPHRASE} are needed")
    used, salt, nonce = cost or USUAL_COST, os.urandom(16), os.urandom(12)
    key_id = signer.public_key.keyid
    cipher = AESGCM(_stretch(passphrase, salt, used))
    private = load_pem_private_key(signer.private_bytes, None)
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"key {key_id[:8]} is no ed25519 key")
    sealed = cipher.encrypt(nonce, private.private_bytes_raw(), _in_clear(role, key_id))
    return msgspec.json.format(
        msgspec.json.encode(SealedKey(role=role, key_id=key_id, cost=used, salt=salt, nonce=nonce, sealed=sealed)),
        indent=2,
    )


def read_sealed(path: Path) -> SealedKey:
    """A key file, still sealed.

    Raises:
        IntegrityError: It is none.
        UsageError: It cannot be read.
    """
    try:
        sealed = msgspec.json.decode(path.read_bytes(), type=SealedKey)
    except OSError as error:
        raise UsageError(f"cannot read key {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise IntegrityError(f"{path} is no key file: {error}") from error
    if sealed.version != 1 or max(sealed.cost.n, sealed.cost.r * 1024, sealed.cost.p * 1024) > _MAX_COST:
        raise IntegrityError(f"{path} is a key file of version {sealed.version} that this edgekit does not read")
    return sealed


def unseal(sealed: SealedKey, passphrase: str, path: Path) -> CryptoSigner:
    """The key in a file.

    Args:
        sealed: From `read_sealed`.
        passphrase: Its passphrase.
        path: For messages.

    Raises:
        UsageError: Another passphrase, or the file was changed.
    """
    cipher = AESGCM(_stretch(passphrase, sealed.salt, sealed.cost))
    try:
        private = cipher.decrypt(sealed.nonce, sealed.sealed, _in_clear(sealed.role, sealed.key_id))
    except (InvalidTag, ValueError) as error:
        raise UsageError(f"the passphrase does not open {path}", hint="or the file was changed") from error
    key = Ed25519PrivateKey.from_private_bytes(private)
    return CryptoSigner(key, SSlibKey.from_crypto(key.public_key(), keyid=sealed.key_id))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, synced; never over another one.

    Raises:
        OutputError: It cannot be written, or is there already.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _stretch(passphrase: str, salt: bytes, cost: ScryptCost) -> bytes:
    memory = 128 * cost.r * (cost.n + cost.p) + (1 << 20)
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=memory, dklen=32)


def _in_clear(role: str, key_id: str) -> bytes:
    return f"edgekit key 1 {role} {key_id}".encode()
