"""Publishing: what boards can read at every moment, what is refused, and what an interruption leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.outcome import UpdateError
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import IntegrityError, OutputError, UsageError
from edgekit.deploy.trust.publishing import make_plan, publish
from edgekit.deploy.trust.repository import check_place, read_state, write_steps
from publishing_workshop import Workshop
from signed_updates import FakeClock, make_client
from update_server import Request, UpdateServer, serving


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def server(workshop: Workshop) -> Iterator[UpdateServer]:
    with serving(workshop.www) as server:
        yield server


@pytest.fixture
def board(server: UpdateServer, workshop: Workshop, tmp_path: Path) -> Callable[[str], UpdateClient]:
    """A board of a name; the same name is the same board."""

    def make(name: str) -> UpdateClient:
        return make_client(server.url, tmp_path / "boards" / name, FakeClock(workshop.now), workshop.pinned)

    return make


def offered(client: UpdateClient) -> int | None:
    offer = client.refresh()
    return None if offer is None else offer.release


def test_published_bundle_reaches_a_board(
    workshop: Workshop, board: Callable[[str], UpdateClient], tmp_path: Path
) -> None:
    done = workshop.publish(1)

    client = board("a")
    offer = client.refresh()
    assert offer is not None
    path = client.fetch(offer, tmp_path / "down")

    assert done.targets == ("stable/host_cpu/pets-1.ekb", "stable/raspberry_pi_4b/pets-1.ekb")
    assert path.read_bytes() == workshop.bundle(1).read_bytes()
    assert open_bundle(path).digest == offer.digest
    assert done.versions == {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}


def test_publishing_needs_no_root_keys_and_writes_the_timestamp_last(workshop: Workshop) -> None:
    done = workshop.publish(1)

    assert done.written[-1] == "metadata/timestamp.json"
    roles = [path.rpartition("/")[2] for path in done.written if path.startswith("metadata/")]
    assert roles == ["1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"]
    assert list(done.written[:2]) == [path for path in done.written if path.startswith("targets/")]


@pytest.mark.parametrize(
    "change",
    ["release", "renew", *(pytest.param(role, marks=pytest.mark.slow) for role in ("timestamp", "snapshot", "all"))],
)
def test_board_reads_a_whole_state_whenever_it_reads(
    change: str, workshop: Workshop, server: UpdateServer, board: Callable[[str], UpdateClient], tmp_path: Path
) -> None:
    """Every step of a publication, and in each of them a board whose requests fall before and after the rest."""
    workshop.publish(1)
    board("known").refresh()
    keyring = workshop.keyring()
    for role in ("timestamp", "snapshot", "targets", "root"):
        if change in {role, "all"}:  # with "all", targets and root, too
            keyring.rotate(role, [], workshop.now)
    keyring = workshop.keyring(has_stick=False)
    bundle = None if change == "renew" else open_bundle(workshop.bundle(2))
    plan = make_plan(read_state(workshop.www, keyring), keyring, workshop.now, bundle, "stable")
    before = tmp_path / "before"
    shutil.copytree(workshop.www, before)
    allowed = {1} if change == "renew" else {1, 2}

    for num_steps in range(len(plan.steps) + 1):
        for num_requests in range(1, 7):
            for name in ("known", "new"):
                shutil.rmtree(workshop.www)
                shutil.copytree(before, workshop.www)
                write_steps(workshop.www, plan.steps[:num_steps])
                server.reset()

                def go_on(request: Request, num_steps: int = num_steps, num_requests: int = num_requests) -> bool:
                    del request
                    if len(server.requests) == num_requests:
                        write_steps(workshop.www, plan.steps[num_steps:])
                    return False

                server.fault = go_on
                shutil.rmtree(tmp_path / "boards" / "trial", ignore_errors=True)
                if name == "known":
                    shutil.copytree(tmp_path / "boards" / "known", tmp_path / "boards" / "trial")
                assert offered(board("trial")) in allowed
    server.fault = None
    write_steps(workshop.www, plan.steps)
    assert offered(board("known")) == max(allowed)


def test_publication_killed_after_any_step_can_be_repeated(
    workshop: Workshop, board: Callable[[str], UpdateClient], tmp_path: Path
) -> None:
    workshop.publish(1)
    workshop.keyring().rotate("snapshot", [], workshop.now)
    keyring = workshop.keyring(has_stick=False)
    bundle = open_bundle(workshop.bundle(2))
    plan = make_plan(read_state(workshop.www, keyring), keyring, workshop.now, bundle, "stable")
    for folder in ("www", "keys"):
        shutil.copytree(tmp_path / folder, tmp_path / f"{folder}-before")

    for num_steps in range(len(plan.steps) + 1):
        for folder in ("www", "keys"):
            shutil.rmtree(tmp_path / folder)
            shutil.copytree(tmp_path / f"{folder}-before", tmp_path / folder)
        write_steps(workshop.www, plan.steps[:num_steps])

        workshop.publish(2)

        assert offered(board(f"board-{num_steps}")) == 2
        workshop.publish(3)
        assert offered(board(f"board-{num_steps}")) == 3


def test_first_publication_killed_after_any_step_can_be_repeated(
    workshop: Workshop, board: Callable[[str], UpdateClient], tmp_path: Path
) -> None:
    keyring = workshop.keyring(has_stick=False)
    bundle = open_bundle(workshop.bundle(1))
    plan = make_plan(read_state(workshop.www, keyring), keyring, workshop.now, bundle, "stable")

    for num_steps in range(len(plan.steps) + 1):
        shutil.rmtree(workshop.www, ignore_errors=True)
        workshop.www.mkdir()
        write_steps(workshop.www, plan.steps[:num_steps])

        workshop.publish(1)

        assert offered(board(f"board-{num_steps}")) == 1
        (tmp_path / "keys" / "keyring.json").write_bytes((tmp_path / "keys" / "keyring.json").read_bytes())


def test_revoked_key_counts_no_more_and_boards_follow(workshop: Workshop, board: Callable[[str], UpdateClient]) -> None:
    workshop.publish(1)
    assert offered(board("a")) == 1
    keyring = workshop.keyring()
    stolen = keyring.root.roles["timestamp"].keyids[0]
    new = keyring.revoke(stolen[:8], workshop.now)
    assert not workshop.keyring().has_private(stolen)

    done = workshop.publish(2)

    assert offered(board("a")) == 2
    timestamp = json.loads((workshop.www / "metadata" / "timestamp.json").read_bytes())
    assert [signature["keyid"] for signature in timestamp["signatures"]] == list(new)
    names = [path.rpartition("/")[2] for path in done.written]
    assert names.index("2.root.json") < names.index("timestamp.json")  # the old key is gone: its root goes first


def test_rotated_key_signs_once_more_and_is_removed(workshop: Workshop, board: Callable[[str], UpdateClient]) -> None:
    workshop.publish(1)
    old = workshop.keyring().root.roles["timestamp"].keyids[0]
    (new,) = workshop.keyring().rotate("timestamp", [], workshop.now)

    workshop.publish(2)

    def signatures() -> set[str]:
        document = json.loads((workshop.www / "metadata" / "timestamp.json").read_bytes())
        return {signature["keyid"] for signature in document["signatures"]}

    assert signatures() == {old, new}
    assert not workshop.keyring().has_private(old)
    workshop.publish(3)
    assert signatures() == {new}
    assert offered(board("a")) == 3


def test_lost_root_keys_are_replaced_by_the_rest(workshop: Workshop, board: Callable[[str], UpdateClient]) -> None:
    """Two of three: one is lost, the other two give a new one in its place."""
    workshop.publish(1)
    lost = workshop.keyring().root.roles["root"].keyids[0]
    next(workshop.stick.glob(f"root-{lost[:8]}.key")).unlink()

    workshop.keyring().revoke(lost[:8], workshop.now)
    workshop.publish(2)

    assert offered(board("a")) == 2
    assert len(workshop.keyring().root.roles["root"].keyids) == 3


def test_same_bundle_again_is_only_renewed(workshop: Workshop) -> None:
    workshop.publish(1)

    done = workshop.publish(1)

    assert done.targets == ()
    assert done.written == ("metadata/timestamp.json",)


def test_lower_release_is_refused_before_anything_is_written(workshop: Workshop) -> None:
    workshop.publish(5)
    before = _files(workshop.www)

    with pytest.raises(UsageError, match="release 4 of pets cannot follow 5"):
        workshop.publish(4)

    assert _files(workshop.www) == before


def test_same_release_with_other_content_is_refused(workshop: Workshop) -> None:
    workshop.publish(5)

    with pytest.raises(UsageError, match="with other content"):
        workshop.publish(5, model=b"another!" * 40)


def test_renewing_in_time_keeps_boards_content_for_years(
    workshop: Workshop, board: Callable[[str], UpdateClient]
) -> None:
    workshop.publish(1)
    for _ in range(40):
        workshop.pass_days(13)
        if (workshop.keyring().root.expires - workshop.now).days < 60:
            workshop.keyring().renew(workshop.now)
        workshop.renew()

        assert offered(board("a")) == 1


def test_not_renewing_ends_in_expired(workshop: Workshop, board: Callable[[str], UpdateClient]) -> None:
    workshop.publish(1)
    workshop.pass_days(15)

    with pytest.raises(UpdateError) as caught:
        board("a").refresh()

    assert (caught.value.outcome.name, caught.value.outcome.role) == ("expired", "timestamp")
    workshop.renew()
    assert offered(board("a")) == 1


def test_root_near_its_end_is_told(workshop: Workshop) -> None:
    workshop.publish(1)
    workshop.pass_days(320)

    assert any("the root expires in 45 days" in note for note in workshop.renew().notes)


def test_repository_of_other_keys_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    workshop.publish(1)
    other = Workshop(tmp_path / "other")

    with pytest.raises(IntegrityError, match="is not of the keys in"):
        publish(workshop.www, other.keyring(), other.now, bundle_path=other.bundle(2))


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_tampered_repository_is_refused(name: str, workshop: Workshop) -> None:
    workshop.publish(1)
    path = workshop.www / "metadata" / name
    document = json.loads(path.read_bytes())
    document["signed"]["expires"] = "2040-01-01T00:00:00Z"
    path.write_text(json.dumps(document))

    with pytest.raises(IntegrityError, match="not signed by the keys of its role"):
        workshop.publish(2)


def test_published_file_is_never_replaced_by_another(workshop: Workshop) -> None:
    workshop.publish(1)
    place = next((workshop.www / "targets" / "stable" / "host_cpu").iterdir())
    content = workshop.bundle(1).read_bytes()
    place.with_name(place.name.replace("-1", "-2")).write_bytes(b"")
    digest = __import__("hashlib").sha256(workshop.bundle(2).read_bytes()).hexdigest()
    place.with_name(f"{digest}.pets-2.ekb").write_bytes(b"something else")

    with pytest.raises(OutputError, match="with other content"):
        workshop.publish(2)

    assert place.read_bytes() == content


def test_folder_restored_from_an_old_copy_goes_on_above_what_boards_saw(
    workshop: Workshop, board: Callable[[str], UpdateClient], tmp_path: Path
) -> None:
    workshop.publish(1)
    shutil.copytree(workshop.www, tmp_path / "backup")
    workshop.publish(2)
    assert offered(board("a")) == 2
    shutil.rmtree(workshop.www)
    shutil.copytree(tmp_path / "backup", workshop.www)

    workshop.publish(3)

    assert offered(board("a")) == 3


def test_clock_that_went_back_is_refused(workshop: Workshop) -> None:
    workshop.publish(1)
    workshop.pass_days(-1)

    with pytest.raises(UsageError, match="clock says 2026-05-31"):
        workshop.publish(2)


def test_missing_key_is_named(workshop: Workshop) -> None:
    next((workshop.keys_dir / "private").glob("snapshot-*")).unlink()

    with pytest.raises(UsageError, match="0 keys of role snapshot are in"):
        workshop.publish(1)


def test_second_publisher_waits_outside(workshop: Workshop) -> None:
    with workshop.keyring().locked(), pytest.raises(UsageError, match="another edgekit works with"):
        workshop.publish(1)


def test_full_disk_leaves_the_old_state(
    workshop: Workshop, board: Callable[[str], UpdateClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.publish(1)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", _no_space)
        with pytest.raises(OutputError, match="No space left"):
            workshop.publish(2)

    assert offered(board("a")) == 1
    workshop.publish(2)
    assert offered(board("a")) == 2


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place", ["s3://bucket/models", "https://example.org/"])
def test_address_on_a_network_is_refused_with_the_way_to_go(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_place(place)

    assert "timestamp.json last" in (caught.value.hint or "")


def test_renewing_nothing_is_refused(workshop: Workshop) -> None:
    with pytest.raises(UsageError, match="holds no repository that could be renewed"):
        workshop.renew()


def test_release_zero_and_folders_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no release"):
        workshop.publish(0)
    with pytest.raises(UsageError, match="is a folder"):
        publish(workshop.www, workshop.keyring(), workshop.now, bundle_path=tmp_path)
    with pytest.raises(UsageError, match="channel"):
        publish(workshop.www, workshop.keyring(), workshop.now, bundle_path=workshop.bundle(1), channel="../up")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
