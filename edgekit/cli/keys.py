"""`edgekit keys`: the keys that sign what boards take, and their changes over the years."""

from __future__ import annotations

import getpass
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.console import note, plain_table, print_json, show
from edgekit.core.errors import MissingDependencyError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from edgekit.deploy.trust.keyring import Keyring
    from edgekit.deploy.trust.policy import RoleName

PASSPHRASE_VARIABLE = "EDGEKIT_PASSPHRASE"  # noqa: S105 - the name of a variable
ROOT_PASSPHRASE_VARIABLE = "EDGEKIT_ROOT_PASSPHRASE"  # noqa: S105 - the name of a variable

app = typer.Typer(
    help="Keys that sign updates: make them, look at them, replace them (docs/trust.md).", no_args_is_help=True
)

Keys = Annotated[Path, typer.Argument(metavar="KEYS", help="Folder of the keys.")]
RootKeys = Annotated[
    Path | None, typer.Option("--root-keys", help="Folder of the root keys, on a stick.  [default: KEYS/offline]")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help=f"File whose first line is the passphrase.  [default: ${PASSPHRASE_VARIABLE}, else asked]"),
]
RootPassphraseFile = Annotated[
    Path | None,
    typer.Option(help=f"The same for the root keys.  [default: ${ROOT_PASSPHRASE_VARIABLE}, else as the others]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Passphrases:
    """Passphrases from a file, the environment, or whoever sits at the terminal.

    Args:
        path: File of the passphrase; None for none.
        root_path: File of the one for root keys; None for none.
    """

    def __init__(self, path: Path | None, root_path: Path | None) -> None:
        self._path = path
        self._root_path = root_path
        self._asked: dict[str, str] = {}

    def get(self, role: RoleName, *, is_new: bool) -> str:
        """The passphrase of a role's keys.

        Raises:
            UsageError: There is nobody to ask and no file or variable that says.
        """
        if role == "root":
            given = _from_file(self._root_path) or os.environ.get(ROOT_PASSPHRASE_VARIABLE)
            if given:
                return given
        given = _from_file(self._path) or os.environ.get(PASSPHRASE_VARIABLE)
        if given:
            return given
        kind = "root keys" if role == "root" else "keys of targets, snapshot and timestamp"
        if kind not in self._asked:
            self._asked[kind] = _ask(kind, is_new=is_new)
        return self._asked[kind]


@app.command("init")
def init(
    keys: Keys,
    root_keys: RootKeys = None,
    root: Annotated[str, typer.Option(metavar="NEEDED/KEYS", help="Root signatures needed, of how many keys.")] = "2/3",
    targets: Annotated[str, typer.Option(metavar="NEEDED/KEYS", help="The same for bundles.")] = "1/1",
    root_days: Annotated[int, typer.Option(help="Days until the root has to be renewed.")] = 365,
    targets_days: Annotated[int, typer.Option(help="Days until the list of bundles has to be signed again.")] = 180,
    snapshot_days: Annotated[int, typer.Option(help="The same for the snapshot.")] = 90,
    timestamp_days: Annotated[int, typer.Option(help="Days until boards say that they hear nothing new.")] = 14,
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make keys for root, targets, snapshot and timestamp, sealed with a passphrase, and the first root.json.

    The root keys belong on a stick in a drawer: they are needed to replace keys, not to publish.
    """
    _require_tuf()
    from msgspec.structs import replace

    from edgekit.deploy.trust.keyring import Keyring
    from edgekit.deploy.trust.policy import Policy, parse_share

    policy = parse_share(targets, "targets", parse_share(root, "root", Policy()))
    policy = replace(
        policy,
        root=replace(policy.root, days=root_days),
        targets=replace(policy.targets, days=targets_days),
        snapshot=replace(policy.snapshot, days=snapshot_days),
        timestamp=replace(policy.timestamp, days=timestamp_days),
    )
    passphrases = Passphrases(passphrase_file, root_passphrase_file)
    made = Keyring.create(keys, passphrases, policy, _now(), offline_dir=root_keys)
    _show(made, as_json=as_json)
    if root_keys is None:
        note(f"move {keys / 'offline'} to a stick, and keep a copy: edgekit keys ... --root-keys DIR finds it there")


@app.command("show")
def show_keys(keys: Keys, root_keys: RootKeys = None, as_json: AsJson = False) -> None:
    """Show roles, keys, which of them are here, and when what expires. Needs no passphrase."""
    _show(_open(keys, root_keys, None, None), as_json=as_json)


@app.command("rotate")
def rotate(
    keys: Keys,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="root, targets, snapshot or timestamp.")],
    key: Annotated[list[str] | None, typer.Option(help="First characters of a key's id; may be given again.")] = None,
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Replace a role's keys, all or some, so that boards follow without noticing. Publish afterwards."""
    keyring = _open(keys, root_keys, passphrase_file, root_passphrase_file)
    with keyring.locked():
        keyring.rotate(_role(role), key or [], _now())
    _show(keyring, as_json=as_json)
    note("boards learn of it with the next edgekit publish")


@app.command("revoke")
def revoke(
    keys: Keys,
    key: Annotated[str, typer.Argument(metavar="KEY", help="First characters of the key's id.")],
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Replace a key that was lost or stolen: nothing that it signed counts any more. Publish at once."""
    keyring = _open(keys, root_keys, passphrase_file, root_passphrase_file)
    with keyring.locked():
        keyring.revoke(key, _now())
    _show(keyring, as_json=as_json)
    note("boards learn of it with the next edgekit publish: do it now")


@app.command("renew")
def renew(
    keys: Keys,
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign the root anew with the same keys, before it expires. Publish afterwards."""
    keyring = _open(keys, root_keys, passphrase_file, root_passphrase_file)
    with keyring.locked():
        keyring.renew(_now())
    _show(keyring, as_json=as_json)
    note("boards learn of it with the next edgekit publish")


def open_keyring(keys: Path, passphrase_file: Path | None) -> Keyring:
    """The keys that publish."""
    return _open(keys, None, passphrase_file, None)


def _open(keys: Path, root_keys: Path | None, file: Path | None, root_file: Path | None) -> Keyring:
    _require_tuf()
    from edgekit.deploy.trust.keyring import Keyring

    return Keyring(keys, Passphrases(file, root_file), root_keys)


def keyring_document(keyring: Keyring) -> dict[str, Any]:
    """What `--json` prints."""
    from edgekit.deploy.trust.policy import ROLES

    roles = [
        {
            "role": role,
            "needed": keyring.root.roles[role].threshold,
            "days": keyring.settings.policy.role(role).days,
            "keys": [
                {"id": key_id, "is_here": keyring.has_private(key_id)} for key_id in keyring.root.roles[role].keyids
            ],
        }
        for role in ROLES
    ]
    return {
        "folder": keyring.folder,
        "root_version": keyring.root.version,
        "root_expires": f"{keyring.root.expires:%Y-%m-%dT%H:%M:%SZ}",
        "pin": keyring.folder / "root" / "1.root.json",
        "roles": roles,
        "published": keyring.settings.published,
    }


def _show(keyring: Keyring, *, as_json: bool) -> None:
    document = keyring_document(keyring)
    if as_json:
        print_json(document)
        return
    rows = [
        (role["role"], f"{role['needed']} of {len(role['keys'])}", str(role["days"]), key["id"][:8], _place(key))
        for role in document["roles"]
        for key in role["keys"]
    ]
    show(f"{document['folder']}: root version {document['root_version']}, until {document['root_expires']}")
    show(plain_table(("role", "needed", "days", "key", "private half"), rows, left={"role", "key", "private half"}))
    show(f"boards trust {document['pin']}")


def _place(key: dict[str, Any]) -> str:
    return "here" if key["is_here"] else "not here"


def _role(text: str) -> RoleName:
    from edgekit.deploy.trust.policy import ROLES

    for role in ROLES:
        if role == text:
            return role
    raise UnknownNameError("role", text, ROLES)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _require_tuf() -> None:
    try:
        import tuf.api.metadata
    except ImportError as error:
        raise MissingDependencyError(
            f"signing needs tuf and securesystemslib, which are not installed ({error})",
            hint="pip install edgekit[agent]",
        ) from error
    del tuf


def _from_file(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read passphrase file {path}: {error}") from error
    if not lines or not lines[0]:
        raise UsageError(f"passphrase file {path} has an empty first line")
    return lines[0]


def _ask(kind: str, *, is_new: bool) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            f"the {kind} need a passphrase, and there is no terminal to ask at",
            hint=f"give --passphrase-file FILE, or set ${PASSPHRASE_VARIABLE}",
        )
    first = getpass.getpass(f"passphrase of the {kind}: ")
    if is_new and getpass.getpass("once more: ") != first:
        raise UsageError("the two passphrases differ")
    return first
