"""The protocol of tuf-conformance, held against the client behind it: what the public suite looks at."""

# python-tuf and securesystemslib offer these classes without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, TargetFile, Targets
from tuf.api.serialization.json import JSONSerializer

import tuf_client
from signed_updates import SignedRepository
from update_server import UpdateServer, serving

Run = Callable[..., int]


@pytest.fixture
def repository_files(tmp_path: Path) -> SignedRepository:
    """Signed now: the client under test has the machine's clock."""
    return SignedRepository(tmp_path / "www", dt.datetime.now(dt.timezone.utc).replace(microsecond=0))


@pytest.fixture
def server(repository_files: SignedRepository) -> Iterator[UpdateServer]:
    with serving(repository_files.folder) as server:
        yield server


@pytest.fixture
def run(server: UpdateServer, tmp_path: Path, repository_files: SignedRepository) -> Run:
    """Run a command of the protocol, after init."""
    metadata_dir, target_dir = tmp_path / "metadata", tmp_path / "targets"
    metadata_dir.mkdir()
    target_dir.mkdir()
    root = tmp_path / "initial_root.json"
    root.write_bytes(repository_files.pinned)
    assert tuf_client.main(["--metadata-dir", str(metadata_dir), "init", str(root)]) == 0
    assert server.requests == []
    places = ["--metadata-url", f"{server.url}/metadata/", "--metadata-dir", str(metadata_dir)]
    targets = ["--target-dir", str(target_dir), "--target-base-url", f"{server.url}/targets/"]

    def call(command: str, *names: str) -> int:
        given = [part for name in names for part in ("--target-name", name)]
        return tuf_client.main([*places, *given, *(targets if command == "download" else []), command])

    return call


def put_target(repository: SignedRepository, path: str, content: bytes, targets: Targets | None = None) -> TargetFile:
    target = TargetFile.from_data(path, content, ["sha256"])
    (repository.targets if targets is None else targets).targets[path] = target
    file = repository.target_path(target)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return target


def versions(tmp_path: Path) -> dict[str, int]:
    """What the suite takes for trusted: every `.json` file of the folder is metadata."""
    return {
        path.stem: Metadata[Any].from_file(str(path)).signed.version for path in (tmp_path / "metadata").glob("*.json")
    }


def test_refresh_asks_in_order_and_stores_plain_names(
    run: Run, server: UpdateServer, repository_files: SignedRepository, tmp_path: Path
) -> None:
    assert run("refresh") == 0

    names = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert server.paths() == [f"/metadata/{name}" for name in names]
    assert versions(tmp_path) == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
    for role in ("root", "timestamp", "snapshot", "targets"):
        stored = (tmp_path / "metadata" / f"{role}.json").read_bytes()
        assert stored == repository_files.path(role).read_bytes()


def test_second_refresh_asks_only_for_what_may_have_changed(run: Run, server: UpdateServer) -> None:
    run("refresh")
    server.reset()

    assert run("refresh") == 0

    assert server.paths() == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_refresh_keeps_what_was_right_up_to_the_fault(
    run: Run, repository_files: SignedRepository, tmp_path: Path
) -> None:
    run("refresh")
    repository_files.publish_root()
    repository_files.publish()
    repository_files.path("snapshot").write_bytes(b"{}")

    assert run("refresh") == 1

    assert versions(tmp_path) == {"root": 2, "timestamp": 2, "snapshot": 1, "targets": 1}


def test_download_implies_refresh_and_is_cached(
    run: Run, server: UpdateServer, repository_files: SignedRepository, tmp_path: Path
) -> None:
    put_target(repository_files, "path/to/a file.txt", b"content")
    repository_files.publish()

    assert run("download", "path/to/a file.txt") == 0
    assert [path.read_bytes() for path in (tmp_path / "targets").iterdir()] == [b"content"]
    server.reset()
    assert run("download", "path/to/a file.txt") == 0
    assert not [path for path in server.paths() if path.startswith("/targets/")]


def test_download_of_a_changed_target_replaces_the_file(
    run: Run, repository_files: SignedRepository, tmp_path: Path
) -> None:
    for content in (b"first", b"second", b""):
        put_target(repository_files, "file", content)
        repository_files.publish()

        assert run("download", "file") == 0
        assert [path.read_bytes() for path in (tmp_path / "targets").iterdir()] == [content]


def test_download_of_a_substituted_target_stores_nothing(
    run: Run, repository_files: SignedRepository, tmp_path: Path
) -> None:
    target = put_target(repository_files, "file", b"content")
    repository_files.publish()
    repository_files.target_path(target).write_bytes(b"malware")

    assert run("download", "file") == 1
    assert list((tmp_path / "targets").iterdir()) == []


def test_download_of_an_unknown_target_fails_after_the_refresh(run: Run, tmp_path: Path) -> None:
    assert run("download", "nothing") == 1
    assert versions(tmp_path).keys() == {"root", "timestamp", "snapshot", "targets"}


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", ".", "a/../../b"])
def test_download_never_leaves_the_folder(
    name: str, run: Run, repository_files: SignedRepository, tmp_path: Path
) -> None:
    target = TargetFile.from_data(name, b"content", ["sha256"])
    repository_files.targets.targets[name] = target
    repository_files.publish()
    before = set(tmp_path.iterdir())

    code = run("download", name)

    assert code in {0, 1}
    assert set(tmp_path.iterdir()) == before
    assert all(path.parent == tmp_path / "targets" for path in (tmp_path / "targets").rglob("*"))


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b'{"signed": 1}', None], ids=["empty", "object", "no_root", "wrong_signature"]
)
def test_invalid_initial_root_fails_without_a_request(
    damage: bytes | None, run: Run, server: UpdateServer, tmp_path: Path
) -> None:
    path = tmp_path / "metadata" / "root.json"
    if damage is None:
        document = json.loads(path.read_bytes())
        document["signatures"][0]["sig"] = "00" * 64
        damage = json.dumps(document).encode()
    path.write_bytes(damage)

    assert run("refresh") == 1
    assert server.requests == []


def test_unknown_fields_are_part_of_what_is_signed(run: Run, repository_files: SignedRepository) -> None:
    repository_files.root.unrecognized_fields["custom"] = {"a": [1, 2]}
    repository_files.publish_root()

    assert run("refresh") == 0


def delegate(parent: Targets, name: str, signer: CryptoSigner, paths: list[str]) -> None:
    if parent.delegations is None:
        parent.delegations = Delegations({}, roles={})
    assert parent.delegations.roles is not None
    parent.delegations.roles[name] = DelegatedRole(name, [], 1, terminating=False, paths=paths)
    parent.add_key(signer.public_key, name)


def put_role(repository: SignedRepository, name: str, targets: Targets, signer: CryptoSigner) -> None:
    metadata = Metadata(targets)
    metadata.sign(signer)
    content = metadata.to_bytes(JSONSerializer())
    (repository.folder / "metadata" / f"1.{quote(name, safe='')}.json").write_bytes(content)
    repository.snapshot.meta[f"{name}.json"] = MetaFile(1)


def test_delegated_role_is_verified_against_each_of_its_parents(
    run: Run, repository_files: SignedRepository, tmp_path: Path
) -> None:
    """What other clients get wrong: C is good through A, and must not be used through B, which trusts another key."""
    keys = {name: CryptoSigner.generate_ed25519() for name in ("A", "B", "through A", "through B")}
    roles = {name: Targets(expires=repository_files.targets.expires) for name in ("A", "B", "C")}
    for name in ("A", "B"):
        delegate(repository_files.targets, name, keys[name], [f"{name.lower()}/*"])
        delegate(roles[name], "C", keys[f"through {name}"], [f"{name.lower()}/*"])
    for path in ("a/file", "b/file"):
        put_target(repository_files, path, path.encode(), roles["C"])
    for name, key in (("A", keys["A"]), ("B", keys["B"]), ("C", keys["through A"])):
        put_role(repository_files, name, roles[name], key)
    repository_files.publish()

    assert run("download", "a/file") == 0
    assert run("download", "b/file") == 1
    assert run("download", "a/file", "b/file") == 1
    assert [path.read_bytes() for path in (tmp_path / "targets").iterdir()] == [b"a/file"]


@pytest.mark.parametrize(
    ("path", "is_delegated"),
    [
        ("docs/a.md", True),
        ("docs/deep/a.md", False),
        ("DOCS/a.md", False),
        ("part-1.bin", True),
        ("part-10.bin", False),
    ],
)
def test_delegated_role_is_asked_only_for_paths_of_its_patterns(
    path: str, is_delegated: bool, run: Run, server: UpdateServer, repository_files: SignedRepository
) -> None:
    """`*` and `?` stop at a slash, and case counts, whatever the role claims to have."""
    key = CryptoSigner.generate_ed25519()
    role = Targets(expires=repository_files.targets.expires)
    delegate(repository_files.targets, "A", key, ["docs/*.md", "part-?.bin"])
    put_target(repository_files, path, b"content", role)
    put_role(repository_files, "A", role, key)
    repository_files.publish()

    assert run("download", path) == (0 if is_delegated else 1)
    assert ("/metadata/1.A.json" in server.paths()) is is_delegated


def test_delegated_role_is_not_asked_for_when_the_snapshot_does_not_list_it(
    run: Run, server: UpdateServer, repository_files: SignedRepository, tmp_path: Path
) -> None:
    key = CryptoSigner.generate_ed25519()
    role = Targets(expires=repository_files.targets.expires)
    delegate(repository_files.targets, "A", key, ["*"])
    put_target(repository_files, "file", b"content", role)
    put_role(repository_files, "A", role, key)
    del repository_files.snapshot.meta["A.json"]
    repository_files.publish()

    assert run("refresh") == 0
    assert run("download", "file") == 1
    assert "/metadata/1.A.json" not in server.paths()
    assert "A" not in versions(tmp_path)


def test_delegated_role_is_neither_used_nor_kept_when_it_has_expired(
    run: Run, repository_files: SignedRepository, tmp_path: Path
) -> None:
    key = CryptoSigner.generate_ed25519()
    yesterday = dt.datetime.now(dt.timezone.utc).replace(microsecond=0) - dt.timedelta(days=1)
    role = Targets(expires=yesterday)
    delegate(repository_files.targets, "A", key, ["*"])
    put_target(repository_files, "file", b"content", role)
    put_role(repository_files, "A", role, key)
    repository_files.publish()

    assert run("refresh") == 0
    assert run("download", "file") == 1
    assert list((tmp_path / "targets").iterdir()) == []
    assert versions(tmp_path).keys() == {"root", "timestamp", "snapshot", "targets"}


@pytest.mark.parametrize("name", ["?", "#", "/delegated", "../delegated", "a.b", "5.root"])
def test_role_names_are_quoted_in_addresses_and_files(
    name: str, run: Run, server: UpdateServer, repository_files: SignedRepository, tmp_path: Path
) -> None:
    key = CryptoSigner.generate_ed25519()
    delegate(repository_files.targets, name, key, ["*"])
    put_role(repository_files, name, Targets(expires=repository_files.targets.expires), key)
    repository_files.publish()

    assert run("download", "nothing") == 1

    assert f"/metadata/1.{quote(name, safe='')}.json" in server.paths()
    assert len(versions(tmp_path)) == 5


def test_time_is_the_machines_as_faketime_sets_it(
    repository_files: SignedRepository, server: UpdateServer, tmp_path: Path
) -> None:
    """faketime sets LD_PRELOAD for the process; here Python itself is told another time before the tool starts."""
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "root.json").write_bytes(repository_files.pinned)
    url = f"{server.url}/metadata/"
    arguments = ["tuf_client.py", "--metadata-dir", str(tmp_path / "metadata"), "--metadata-url", url, "refresh"]
    program = f"""
import runpy, sys, time
real = time.time
time.time = lambda: real() + 40 * 86400
sys.argv = {arguments!r}
runpy.run_path({tuf_client.__file__!r}, run_name="__main__")
"""

    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 1
    assert "expired" in done.stderr


def test_tool_runs_as_a_program(server: UpdateServer, repository_files: SignedRepository, tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "root.json").write_bytes(repository_files.pinned)
    arguments = ["--metadata-dir", str(tmp_path / "metadata"), "--metadata-url", f"{server.url}/metadata/", "refresh"]

    done = subprocess.run(
        [sys.executable, tuf_client.__file__, *arguments], capture_output=True, cwd=tmp_path, timeout=120, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
