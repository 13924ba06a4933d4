"""Root metadata: made, and changed so that boards can follow from each version to the next."""

# python-tuf offers its classes in tuf.api.metadata without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed
from tuf.api.serialization.json import JSONSerializer

from edgekit.bundle.release import SIGNED_AT_KEY
from edgekit.core.errors import IntegrityError, UsageError
from edgekit.deploy.trust.policy import ROLES, Policy, RoleName


def make_root(keys: Mapping[RoleName, Sequence[Key]], policy: Policy, now: dt.datetime) -> Root:
    """The first version, unsigned.

    Args:
        keys: Of each role.
        policy: How many of them are needed.
        now: The time.
    """
    root = Root(version=1, consistent_snapshot=True)
    for role in ROLES:
        root.roles[role].threshold = policy.role(role).threshold
        for key in keys[role]:
            root.add_key(key, role)
    stamp(root, policy.root.days, now)
    return root


def next_root(
    root: Root, policy: Policy, now: dt.datetime, added: Iterable[tuple[RoleName, Key]], removed: Iterable[str]
) -> Root:
    """The version after a root, unsigned: other keys, a new date.

    Args:
        root: The newest so far; left as it is.
        policy: For how long the new one is good.
        now: The time.
        added: Keys with the roles that they are for.
        removed: Ids of keys that no role has any more.

    Raises:
        UsageError: A role would be left with fewer keys than it needs.
    """
    changed = copy.deepcopy(root)
    for role, key in added:
        changed.add_key(key, role)
    for key_id in removed:
        for role in ROLES:
            if key_id in changed.roles[role].keyids:
                changed.revoke_key(key_id, role)
    for role in ROLES:
        left, needed = len(changed.roles[role].keyids), changed.roles[role].threshold
        if left < needed:
            raise UsageError(f"role {role} would have {left} keys, and needs {needed} signatures")
    changed.version = root.version + 1
    stamp(changed, policy.root.days, now)
    return changed


def sign(signed: Signed, signers: Iterable[Signer]) -> bytes:
    """Metadata with signatures, as it is published."""
    metadata = Metadata[Any](signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=False))


def stamp(signed: Signed, days: int, now: dt.datetime) -> None:
    """Write into metadata when it is signed and until when it is good."""
    signed.expires = (now + dt.timedelta(days=days)).replace(microsecond=0)
    signed.unrecognized_fields[SIGNED_AT_KEY] = int(now.timestamp())


def read_root(content: bytes, origin: str, previous: Root | None = None) -> Root:
    """Root metadata, checked against its own keys and those of the version before.

    Args:
        content: Of the file.
        origin: For messages.
        previous: The version before; None for the first.

    Raises:
        IntegrityError: It is none, is not the next version, or lacks signatures: says how many of whose.
    """
    try:
        metadata = Metadata[Root].from_bytes(content)
        root = metadata.signed
        if root.type != "root":
            raise IntegrityError(f"{origin} is {root.type} metadata, expected root")
        if previous is not None and root.version != previous.version + 1:
            raise IntegrityError(f"{origin} is root version {root.version}, expected {previous.version + 1}")
        result = root.get_root_verification_result(previous, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise IntegrityError(f"{origin} is no root metadata: {error}") from error
    if not result.verified:
        worst = min((result.first, result.second), key=lambda part: len(part.signed) - part.threshold)
        raise IntegrityError(
            f"{origin} has {len(worst.signed)} good signatures of {worst.threshold} that are needed",
            hint=f"keys that could sign: {', '.join(sorted(key[:8] for key in worst.unsigned)) or 'none'}",
        )
    return root
