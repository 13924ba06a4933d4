"""How many keys sign what, and for how long: what `edgekit keys init` decides, and what was published since."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import msgspec

from edgekit.core.errors import UsageError

RoleName: TypeAlias = Literal["root", "targets", "snapshot", "timestamp"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

MAX_KEYS = 16
MAX_DAYS = 3650


class RolePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One role.

    Args:
        threshold: Good signatures that are needed.
        num_keys: Keys that may give them.
        days: For which a signature is good.
    """

    threshold: int
    num_keys: int
    days: int


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All roles.

    Two of three root keys, so that one may be lost and one stolen. One key for each of the others, which lie together
    on the machine that publishes. Days: a board that hears nothing newer than a timestamp of two weeks says so
    (freeze); who publishes by hand has that long to renew it.

    Args:
        root: Says which keys the others have. Offline.
        targets: Says which bundles there are.
        snapshot: Says which lists belong together.
        timestamp: Says which snapshot is the newest.
    """

    root: RolePolicy = RolePolicy(threshold=2, num_keys=3, days=365)
    targets: RolePolicy = RolePolicy(threshold=1, num_keys=1, days=180)
    snapshot: RolePolicy = RolePolicy(threshold=1, num_keys=1, days=90)
    timestamp: RolePolicy = RolePolicy(threshold=1, num_keys=1, days=14)

    def role(self, name: RoleName) -> RolePolicy:
        """The policy of one role."""
        return {"root": self.root, "targets": self.targets, "snapshot": self.snapshot, "timestamp": self.timestamp}[
            name
        ]

    def check(self) -> None:
        """Check what no type can say.

        Raises:
            UsageError: More signatures than keys, no keys, or days that make no sense.
        """
        for name in ROLES:
            role = self.role(name)
            if not 1 <= role.threshold <= role.num_keys <= MAX_KEYS:
                raise UsageError(
                    f"{name}: {role.threshold} of {role.num_keys} keys cannot be, expected 1 <= needed <= keys <= 16"
                )
            if not 1 <= role.days <= MAX_DAYS:
                raise UsageError(f"{name}: {role.days} days, expected 1 to {MAX_DAYS}")
        if self.timestamp.days > self.snapshot.days or self.snapshot.days > self.root.days:
            raise UsageError("timestamps must not last longer than snapshots, nor snapshots longer than the root")


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was published last: nothing lower ever follows, whatever became of the folder that it went to.

    Args:
        targets: Version.
        snapshot: Version.
        timestamp: Version.
        signed_unix_s: When it was signed, seconds since 1970.
    """

    targets: int = 0
    snapshot: int = 0
    timestamp: int = 0
    signed_unix_s: int = 0


class KeyringSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keyring.json`.

    Args:
        policy: Of all roles.
        published: What was published last.
        version: Of this file.
    """

    policy: Policy
    published: Published = Published()
    version: int = 1


def parse_share(text: str, role: RoleName, policy: Policy) -> Policy:
    """The policy with another "needed/keys" for a role.

    Raises:
        UsageError: No two numbers.

    >>> parse_share("2/2", "targets", Policy()).targets.threshold
    2
    """
    needed, _, keys = text.partition("/")
    if not (needed.isdecimal() and keys.isdecimal()):
        raise UsageError(f"--{role} is {text!r}, expected NEEDED/KEYS such as 2/3")
    changed = msgspec.structs.replace(policy.role(role), threshold=int(needed), num_keys=int(keys))
    return msgspec.structs.replace(policy, **{role: changed})
