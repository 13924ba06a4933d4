"""What python-tuf refused, by name: its exceptions say less than the metadata that it was given."""

# python-tuf offers its classes in tuf.api.metadata without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from edgekit.agent.update.fetcher import Fetched
from edgekit.agent.update.outcome import Outcome, OutcomeName

TUF_ERRORS = (exceptions.RepositoryError, exceptions.DownloadError, ValueError, RuntimeError)
"""What `Updater` raises, besides OSError for the disk."""


def explain(error: Exception, root: Root, last: Fetched | None, expired_role: str | None) -> Outcome:
    """The outcome of an exception of python-tuf.

    Args:
        error: One of `TUF_ERRORS`.
        root: That is trusted.
        last: The file that was asked for last; None when none was.
        expired_role: Of what is trusted, the highest that is too old; None where it is the last file.
    """
    role, url = ("root", None) if last is None else (last.role, last.url)
    if isinstance(error, exceptions.ExpiredMetadataError):
        role = expired_role or role
        return Outcome(name="expired", message=f"the metadata of role {role} is too old", role=role, url=url)
    if isinstance(error, exceptions.DownloadLengthMismatchError):
        message = f"{url}: does not end where metadata of role {role} has to end"
        return Outcome(name="too_large", message=message, role=role, url=url)
    name = _name(error, root, last)
    return Outcome(name=name, message=_MESSAGES[name].format(role=role), role=role, url=url)


_MESSAGES: dict[OutcomeName, str] = {
    "no_root": "the pinned root is refused",
    "unsigned": "the metadata of role {role} has no signature",
    "wrong_key": "the metadata of role {role} is signed by other keys than the role has",
    "forged": "a signature on the metadata of role {role} does not fit what it says",
    "below_threshold": "the metadata of role {role} has fewer good signatures than the role needs",
    "rollback": "the metadata of role {role} is older than what was seen before",
    "mix_and_match": "the metadata of role {role} is not the one that the rest of the repository names",
    "malformed": "what came for role {role} is no metadata of that role",
}


def _name(error: Exception, root: Root, last: Fetched | None) -> OutcomeName:
    if last is None:
        return "no_root"
    if isinstance(error, exceptions.UnsignedMetadataError):
        return _signature_name(root, last)
    if isinstance(error, exceptions.LengthOrHashMismatchError):
        return "mix_and_match"
    signed = _signed(last)
    if signed is None or signed.type != (last.role if last.role in root.roles else Targets.type):
        return "malformed"
    if isinstance(error, exceptions.BadVersionNumberError):
        return "mix_and_match" if _is_unnamed(error, signed) else "rollback"
    # what is left is a snapshot that no longer names a role, or a role that no snapshot names
    return (
        "rollback" if isinstance(signed, Snapshot) else "mix_and_match" if isinstance(signed, Targets) else "malformed"
    )


def _is_unnamed(error: exceptions.BadVersionNumberError, signed: Root | Timestamp | Snapshot | Targets) -> bool:
    """Whether a version is wrong because another one is named elsewhere, as opposed to seen before."""
    # of a snapshot, python-tuf says "Expected snapshot version 3, got 2", or "Expected targets.json version ..."
    return isinstance(signed, Targets) or (isinstance(signed, Snapshot) and "Expected snapshot version" in str(error))


def _signature_name(root: Root, last: Fetched) -> OutcomeName:
    try:
        metadata = Metadata[Any].from_bytes(bytes(last.content))
    except exceptions.RepositoryError:
        return "malformed"
    if not metadata.signatures:
        return "unsigned"
    if last.role not in root.roles:  # a delegated one: its keys stand in another file
        return "below_threshold"
    role = root.roles[last.role]
    result = root.get_verification_result(last.role, metadata.signed_bytes, metadata.signatures)
    if result.verified and isinstance(metadata.signed, Root):  # a new root that its own keys did not sign
        role = metadata.signed.roles[last.role]
        result = metadata.signed.get_verification_result(last.role, metadata.signed_bytes, metadata.signatures)
    if result.signed:
        return "below_threshold"
    return "forged" if set(metadata.signatures) & set(role.keyids) else "wrong_key"


def _signed(last: Fetched) -> Root | Timestamp | Snapshot | Targets | None:
    try:
        signed = Metadata[Any].from_bytes(bytes(last.content)).signed
    except exceptions.RepositoryError:
        return None
    return signed if isinstance(signed, (Root, Timestamp, Snapshot, Targets)) else None
