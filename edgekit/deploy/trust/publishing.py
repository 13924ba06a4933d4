"""Publish: the next state of the repository, planned as data, then written so that readers always see a whole one.

The order. Bundles first, then the list that names them, then the snapshot that names the list, then the timestamp that
names the snapshot: a board that reads in between follows the old timestamp, and everything that it names is still
there, because no file but the timestamp is ever replaced. A new root comes last of all: what it demands is out there
already, signed by the old keys *and* the new ones. Only when the old keys are gone (revoked) it comes first, and for
the moment between it and the timestamp a board is told "wrong_key" and tries again later.
"""

# python-tuf offers its classes in tuf.api.metadata without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Signed, Snapshot, TargetFile, Targets, Timestamp

from edgekit.bundle.archive import EXTENSION
from edgekit.bundle.reading import Bundle, open_bundle
from edgekit.bundle.release import ReleaseNote, TargetName, check_channel, encode_note, parse_target_path, read_note
from edgekit.core.errors import UsageError
from edgekit.deploy.trust.keyring import Keyring
from edgekit.deploy.trust.policy import Published, RoleName
from edgekit.deploy.trust.repository import METADATA_DIR, TARGETS_DIR, TIMESTAMP, State, Step, read_state, write_steps
from edgekit.deploy.trust.roots import sign, stamp

_ONLINE: tuple[RoleName, ...] = ("targets", "snapshot", "timestamp")
_CLOCK_SLACK_S = 300
ROOT_WARNING_DAYS = 60


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What was published.

    Args:
        folder: The repository.
        targets: Paths of the bundles that are new.
        written: Files written, in order, below the folder.
        versions: Of each role, as boards see them now.
        expires: Of each role, ISO 8601, UTC.
        notes: What the publisher should know.
    """

    folder: Path
    targets: tuple[str, ...]
    written: tuple[str, ...]
    versions: dict[str, int]
    expires: dict[str, str]
    notes: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be written.

    Args:
        steps: Files, in order.
        published: What the keyring remembers afterwards.
        targets: Paths of the bundles that are new.
        versions: Of each role.
        expires: Of each role.
    """

    steps: tuple[Step, ...]
    published: Published
    targets: tuple[str, ...]
    versions: dict[str, int]
    expires: dict[str, dt.datetime]


def publish(
    folder: Path, keyring: Keyring, now: dt.datetime, *, bundle_path: Path | None = None, channel: str = "stable"
) -> Publication:
    """Add a bundle to a repository, or renew the signatures of what is there.

    Args:
        folder: The repository; made if it is not there.
        keyring: The keys of targets, snapshot and timestamp; the root's are not needed.
        now: The time.
        bundle_path: `.ekb` file; None to renew.
        channel: Which stream of releases.

    Raises:
        UsageError: A lower release than before, the same with other content, keys that are not there, or a clock that
            went back.
        IntegrityError: The bundle, or the repository, is not what it should be.
        OutputError: It cannot be written.
    """
    check_channel(channel)
    bundle = None if bundle_path is None else _open_file(bundle_path)
    with keyring.locked():
        _check_clock(keyring, now)
        state = read_state(folder, keyring)
        if state.timestamp is None and bundle is None:
            raise UsageError(f"{folder} holds no repository that could be renewed", hint="publish a bundle there first")
        plan = make_plan(state, keyring, now, bundle, channel)
        write_steps(folder, plan.steps)
        keyring.note_published(plan.published)
    return Publication(
        folder=folder,
        targets=plan.targets,
        written=tuple(step.path for step in plan.steps),
        versions=plan.versions,
        expires={role: f"{moment:%Y-%m-%dT%H:%M:%SZ}" for role, moment in plan.expires.items()},
        notes=_notes(keyring, plan, now),
    )


def make_plan(state: State, keyring: Keyring, now: dt.datetime, bundle: Bundle | None, channel: str) -> Plan:
    """Decide the next state of a repository; nothing is written.

    Raises:
        UsageError: As `publish`.
    """
    signers = {role: _signers(keyring, state, role) for role in _ONLINE}
    is_rotating = state.root_version < keyring.root.version
    targets = copy.deepcopy(state.targets) if state.targets is not None else Targets()
    added = () if bundle is None else _add(targets, bundle, channel)
    steps = [
        Step(path=_target_file(path, targets.targets[path]), source_path=bundle.path)
        for path in added
        if bundle is not None
    ]
    last = keyring.settings.published
    policy = keyring.settings.policy
    metadata: list[Step] = []

    is_new = (
        bool(added) or is_rotating or state.targets is None or _is_half_gone(state.targets, policy.targets.days, now)
    )
    if is_new:
        targets.version = max(state.highest.get("targets", 0), last.targets) + 1
        stamp(targets, policy.targets.days, now)
        metadata.append(_step(targets, signers["targets"]))
    snapshot = state.snapshot
    if is_new or snapshot is None or _is_half_gone(snapshot, policy.snapshot.days, now):
        named = _describe(metadata[-1], targets) if is_new else _kept(state, "targets.json")
        snapshot = Snapshot(meta={"targets.json": named})
        snapshot.version = max(state.highest.get("snapshot", 0), last.snapshot) + 1
        stamp(snapshot, policy.snapshot.days, now)
        metadata.append(_step(snapshot, signers["snapshot"]))
        described = _describe(metadata[-1], snapshot)
    else:
        described = _kept(state, "snapshot.json")
    timestamp = Timestamp(snapshot_meta=described)
    timestamp.version = max(0 if state.timestamp is None else state.timestamp.version, last.timestamp) + 1
    stamp(timestamp, policy.timestamp.days, now)
    metadata.append(Step(path=TIMESTAMP, content=sign(timestamp, signers["timestamp"])))

    signed: dict[str, Signed] = {
        "root": keyring.root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp
    }  # fmt: skip
    return Plan(
        steps=(*steps, *_with_roots(metadata, keyring, state)),
        published=Published(
            targets=targets.version,
            snapshot=snapshot.version,
            timestamp=timestamp.version,
            signed_unix_s=int(now.timestamp()),
        ),
        targets=added,
        versions={role: part.version for role, part in signed.items()},
        expires={role: part.expires for role, part in signed.items()},
    )


def _with_roots(metadata: list[Step], keyring: Keyring, state: State) -> list[Step]:
    """Put new roots behind the metadata if the old keys signed it, too; else before."""
    new = [
        Step(path=f"{METADATA_DIR}/{root.version}.root.json", content=keyring.root_content(root.version))
        for root in keyring.roots[state.root_version :]
    ]
    is_first = state.root_version == 0
    return [*new, *metadata] if is_first or not _old_keys_suffice(keyring, state) else [*metadata, *new]


def _old_keys_suffice(keyring: Keyring, state: State) -> bool:
    """Whether, for each root that boards may hold meanwhile, enough of its keys are here to sign for it, too."""
    return all(
        sum(map(keyring.has_private, root.roles[role].keyids)) >= root.roles[role].threshold
        for root in keyring.roots[max(state.root_version - 1, 0) :]
        for role in _ONLINE
    )


def _signers(keyring: Keyring, state: State, role: RoleName) -> list[CryptoSigner]:
    """Those that the newest root asks for, and those of the roots that boards may still hold.

    Raises:
        UsageError: Too few of the newest root's keys are here.
    """
    keys = keyring.root.roles[role]
    found = keyring.signers(keys.keyids, role)
    if len(found) < keys.threshold:
        raise UsageError(
            f"{len(found)} keys of role {role} are in {keyring.folder}, {keys.threshold} are needed",
            hint="publish where the keys are, or replace the lost one: edgekit keys revoke",
        )
    held = keyring.roots[max(state.root_version - 1, 0) : -1]
    older = {key_id for root in held for key_id in root.roles[role].keyids} - set(keys.keyids)
    return [*found, *keyring.signers(older, role)]


def _add(targets: Targets, bundle: Bundle, channel: str) -> tuple[str, ...]:
    """Put a bundle into the signed list, once for each of its boards; gives the new paths, none if it was there.

    Raises:
        UsageError: A lower release than before, or the same with other content.
    """
    manifest, added = bundle.manifest, list[str]()
    for board in manifest.compatible.boards:
        name = TargetName(channel=channel, board=board, name=manifest.name, release=manifest.release)
        parse_target_path(name.path)
        for path, target in targets.targets.items():
            other = parse_target_path(path)
            if (other.channel, other.board, other.name) != (channel, board, manifest.name):
                continue
            if other.release > manifest.release:
                raise UsageError(
                    f"release {manifest.release} of {manifest.name} cannot follow {other.release} on {channel}/{board}",
                    hint=f"boards take only higher ones: edgekit bundle ... --release {other.release + 1}",
                )
            if other.release == manifest.release and read_note(target.custom, other).digest != bundle.digest:
                raise UsageError(
                    f"release {manifest.release} of {manifest.name} is on {channel}/{board} with other content",
                    hint=f"give it another number: edgekit bundle ... --release {other.release + 1}",
                )
        if name.path not in targets.targets:
            entry = TargetFile.from_file(name.path, str(bundle.path), ["sha256"])
            note = ReleaseNote(name=manifest.name, release=manifest.release, board=board, digest=bundle.digest)
            entry.unrecognized_fields["custom"] = encode_note(note)
            targets.targets[name.path] = entry
            added.append(name.path)
    return tuple(added)


def _open_file(path: Path) -> Bundle:
    """Raises as `open_bundle`, and `UsageError` for a folder."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"publish the {EXTENSION} file that edgekit bundle makes")
    bundle = open_bundle(path)
    if bundle.manifest.release < 1:
        raise UsageError(f"{path} is no release", hint="edgekit bundle ... --release NUMBER")
    return bundle


def _target_file(path: str, target: TargetFile) -> str:
    folder, _, name = path.rpartition("/")
    return f"{TARGETS_DIR}/{folder}/{target.hashes['sha256']}.{name}"


def _step(signed: Targets | Snapshot, signers: Sequence[CryptoSigner]) -> Step:
    return Step(path=f"{METADATA_DIR}/{signed.version}.{signed.type}.json", content=sign(signed, signers))


def _describe(step: Step, signed: Signed) -> MetaFile:
    return MetaFile.from_data(signed.version, step.content or b"", ["sha256"])


def _kept(state: State, name: str) -> MetaFile:
    """How a file that stays is described now."""
    if state.snapshot is None or state.timestamp is None:  # the callers have made new ones then
        raise UsageError("there is no repository to renew")
    return state.timestamp.snapshot_meta if name == "snapshot.json" else state.snapshot.meta[name]


def _is_half_gone(signed: Signed, days: int, now: dt.datetime) -> bool:
    return signed.expires - now < dt.timedelta(days=days) / 2


def _check_clock(keyring: Keyring, now: dt.datetime) -> None:
    last = keyring.settings.published.signed_unix_s
    if now.timestamp() < last - _CLOCK_SLACK_S:
        moment = dt.datetime.fromtimestamp(last, dt.timezone.utc)
        raise UsageError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, the last publication was at {moment:%Y-%m-%d %H:%M}",
            hint="set the clock: boards would take what is signed now for expired",
        )


def _notes(keyring: Keyring, plan: Plan, now: dt.datetime) -> tuple[str, ...]:
    notes: list[str] = []
    if (days := (keyring.root.expires - now).days) < ROOT_WARNING_DAYS:
        notes.append(f"the root expires in {days} days: edgekit keys renew, then publish again")
    if not plan.targets:
        notes.append("no new bundle: signatures were renewed")
    return tuple(notes)
