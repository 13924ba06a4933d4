"""What the client keeps through power cuts, rotations, wrong clocks and its own restarts."""

# python-tuf and securesystemslib offer these classes without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from edgekit.agent.update.client import PINNED_ROOT, UpdateClient
from edgekit.agent.update.offers import Seen
from edgekit.agent.update.outcome import Outcome, UpdateError
from edgekit.bundle.release import SIGNED_AT_KEY
from signed_updates import NOW, FakeClock, SignedRepository, make_client
from update_server import UpdateServer

Refused = Callable[..., Outcome]
LOST = ("timestamp.json", "snapshot.json")
EPOCH = dt.datetime(1970, 1, 1, 0, 1, tzinfo=dt.timezone.utc)


class PlainFetcher(FetcherInterface):
    """For python-tuf alone, as its users would have it."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                yield answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            raise DownloadHTTPError(str(error), error.code) from error
        except OSError as error:
            raise DownloadError(str(error)) from error


def plain_refresh(folder: Path, url: str, pinned: bytes) -> Updater:
    updater = Updater(str(folder), f"{url}/metadata/", fetcher=PlainFetcher(), bootstrap=pinned)
    updater._trusted_set.reference_time = NOW
    updater.refresh()
    return updater


@pytest.fixture
def old_and_new(repository_files: SignedRepository, tmp_path: Path) -> Callable[[], None]:
    """A repository that goes on; the result puts the old one back in its place, all of whose signatures are good."""
    repository_files.release(1)
    shutil.copytree(repository_files.folder, tmp_path / "old")
    repository_files.release(2)

    def go_back() -> None:
        shutil.rmtree(repository_files.folder)
        shutil.copytree(tmp_path / "old", repository_files.folder)

    return go_back


def test_old_repository_after_a_power_cut_is_taken_by_plain_python_tuf(
    server: UpdateServer, repository_files: SignedRepository, old_and_new: Callable[[], None], tmp_path: Path
) -> None:
    """Why there are marks. If this fails, python-tuf has learned it, and the decision may be looked at again."""
    plain = tmp_path / "plain"
    plain.mkdir()
    pinned = repository_files.pinned
    assert plain_refresh(plain, server.url, pinned).get_targetinfo("stable/raspberry_pi_4b/pets-2.ekb") is not None
    for name in LOST:
        os.truncate(plain / name, 0)
    old_and_new()

    updater = plain_refresh(plain, server.url, pinned)

    assert updater.get_targetinfo("stable/raspberry_pi_4b/pets-2.ekb") is None
    assert updater.get_targetinfo("stable/raspberry_pi_4b/pets-1.ekb") is not None


@pytest.mark.parametrize("lost", [LOST, ("timestamp.json",), (*LOST, "targets.json", "root.json")])
@pytest.mark.parametrize("how", ["zeroed", "empty", "gone"])
def test_old_repository_after_a_power_cut_is_refused_by_ours(
    how: str,
    lost: tuple[str, ...],
    client: UpdateClient,
    refused: Refused,
    old_and_new: Callable[[], None],
    tmp_path: Path,
) -> None:
    client.refresh()
    for name in lost:
        path = tmp_path / "state" / "metadata" / name
        size = path.stat().st_size
        path.unlink()
        if how != "gone":
            path.write_bytes(bytes(size if how == "zeroed" else 0))
    old_and_new()

    outcome = refused()

    assert (outcome.name, outcome.role) == ("rollback", "timestamp")


def test_lost_metadata_is_fetched_again(
    client: UpdateClient, repository_files: SignedRepository, tmp_path: Path
) -> None:
    repository_files.release(3)
    client.refresh()
    shutil.rmtree(tmp_path / "state" / "metadata")

    offer = client.refresh()

    assert offer is not None
    assert offer.release == 3


def test_old_repository_is_refused_when_only_the_marks_were_lost(
    client: UpdateClient, refused: Refused, old_and_new: Callable[[], None], tmp_path: Path
) -> None:
    client.refresh()
    (tmp_path / "state" / "marks.json").write_bytes(bytes(100))
    old_and_new()

    assert refused().name == "rollback"


def test_every_file_and_its_folder_are_synced_before_refresh_returns(
    client: UpdateClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    client.refresh()

    folder = tmp_path / "state" / "metadata"
    for name in ("root", "timestamp", "snapshot", "targets"):
        assert str(folder / f".{name}.json.new") in synced
    assert synced.index(str(tmp_path / "state" / ".marks.json.new")) < synced.index(str(folder / ".root.json.new"))
    assert synced[-1] == str(folder)
    # a second refresh with nothing new writes nothing: flash wears out
    synced.clear()
    client.refresh()
    assert synced == []


def test_rotated_keys_are_followed_over_several_roots(client: UpdateClient, repository_files: SignedRepository) -> None:
    client.refresh()
    for role in ("timestamp", "snapshot", "targets", "root", "timestamp"):
        repository_files.rotate(role)
    repository_files.release(4)

    offer = client.refresh()

    assert offer is not None
    assert offer.release == 4


def test_fast_forward_attack_is_recovered_from_by_rotation(
    client: UpdateClient, repository_files: SignedRepository, refused: Refused
) -> None:
    """A thief of the timestamp and snapshot keys published huge versions; new keys make the marks fall."""
    versions = repository_files.timestamp.version, repository_files.snapshot.version
    repository_files.timestamp.version, repository_files.snapshot.version = 10**6, 10**6
    repository_files.publish()
    client.refresh()
    repository_files.timestamp.version, repository_files.snapshot.version = versions
    repository_files.publish()
    assert refused().name == "rollback"

    repository_files.rotate("timestamp")
    repository_files.rotate("snapshot")
    repository_files.publish()

    client.refresh()


def test_added_key_does_not_make_the_marks_fall(
    client: UpdateClient, repository_files: SignedRepository, refused: Refused, tmp_path: Path
) -> None:
    repository_files.publish()
    client.refresh()
    other = SignedRepository(tmp_path / "other")
    repository_files.root.add_key(other.signers["timestamp"][0].public_key, "timestamp")
    repository_files.publish_root()
    shutil.rmtree(tmp_path / "state" / "metadata")
    repository_files.timestamp.version -= 1
    repository_files.put("timestamp")

    assert refused().name == "rollback"


def test_clock_of_1970_is_told_and_does_not_stop_updates(
    client: UpdateClient, clock: FakeClock, repository_files: SignedRepository
) -> None:
    clock.now = EPOCH
    repository_files.release(1)

    offer = client.refresh()

    assert offer is not None
    assert client.status.is_clock_behind
    assert client.status.floor_unix_s == int(NOW.timestamp())


def test_clock_of_1970_does_not_make_expired_metadata_fresh(
    clock: FakeClock, repository_files: SignedRepository, refused: Refused
) -> None:
    """The newest signature that the board knows says that it cannot be earlier."""
    clock.now = EPOCH
    repository_files.snapshot.expires = NOW - dt.timedelta(days=1)
    repository_files.publish()

    outcome = refused()

    assert (outcome.name, outcome.role) == ("expired", "snapshot")


@pytest.mark.parametrize("role", ["root", "snapshot", "targets"])
def test_clock_of_1970_learns_the_time_from_a_new_timestamp(
    role: str, clock: FakeClock, repository_files: SignedRepository, refused: Refused
) -> None:
    """What had expired before the timestamp was signed is refused, though the board knew of no such late moment."""
    clock.now = EPOCH
    later = NOW + dt.timedelta(days=10)
    repository_files.signed(role).expires = later - dt.timedelta(days=1)
    repository_files.timestamp.unrecognized_fields[SIGNED_AT_KEY] = int(later.timestamp())
    if role == "root":
        repository_files.publish_root()
    repository_files.publish()

    outcome = refused()

    assert (outcome.name, outcome.role) == ("expired", role)


@pytest.mark.parametrize("said", [2**62, -5, 0, True, "tomorrow", None])
def test_moment_of_signing_that_is_no_date_is_not_believed(
    said: object, client: UpdateClient, repository_files: SignedRepository
) -> None:
    repository_files.timestamp.unrecognized_fields[SIGNED_AT_KEY] = said
    repository_files.publish()

    client.refresh()
    client.refresh()

    assert client.status.floor_unix_s == int(NOW.timestamp())


def test_moment_of_signing_far_ahead_is_recovered_from_by_rotation(
    client: UpdateClient, repository_files: SignedRepository, refused: Refused
) -> None:
    """A thief of the timestamp key, or a publisher with a wrong clock, says that it is 2080."""
    ahead = int((NOW + dt.timedelta(days=20_000)).timestamp())
    repository_files.timestamp.unrecognized_fields[SIGNED_AT_KEY] = ahead
    repository_files.publish()
    assert refused().name == "expired"
    repository_files.timestamp.unrecognized_fields[SIGNED_AT_KEY] = int(NOW.timestamp())
    repository_files.publish()
    assert refused().name == "expired"

    repository_files.rotate("timestamp")
    repository_files.publish()

    client.refresh()


def test_clock_that_runs_rightly_is_not_told(client: UpdateClient) -> None:
    client.refresh()

    assert not client.status.is_clock_behind


def test_clock_far_ahead_is_hinted_at(client: UpdateClient, clock: FakeClock) -> None:
    clock.now = NOW + dt.timedelta(days=20_000)

    with pytest.raises(UpdateError) as caught:
        client.refresh()

    assert caught.value.outcome.name == "expired"
    assert "2081" in (caught.value.hint or "")


def test_installed_bundle_is_no_update(client: UpdateClient, repository_files: SignedRepository) -> None:
    repository_files.release(3)
    offer = client.refresh()
    assert offer is not None

    assert client.refresh(Seen(name="pets", release=3, digest=offer.digest)) is None
    assert client.refresh(Seen(name="pets", release=2, digest=offer.digest)) == offer
    assert client.refresh(Seen(name="cars", release=9, digest=offer.digest)) == offer


def test_downloaded_bundle_is_offered_until_it_is_installed(
    client: UpdateClient, repository_files: SignedRepository, tmp_path: Path
) -> None:
    repository_files.release(3)
    offer = client.refresh()
    assert offer is not None
    client.fetch(offer, tmp_path / "down")

    assert client.refresh() == offer


def test_nothing_published_for_this_board_is_no_update(client: UpdateClient) -> None:
    assert client.refresh() is None
    assert client.status.outcome is None


def test_board_without_a_root_says_so(server: UpdateServer, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "state" / PINNED_ROOT).unlink()

    assert refused().name == "no_root"
    assert server.requests == []


@pytest.mark.parametrize("content", [b"", b"{}", b"hello"])
def test_pinning_garbage_is_refused(content: bytes, client: UpdateClient) -> None:
    with pytest.raises(UpdateError) as caught:
        client.pin_root(content)

    assert caught.value.outcome.name == "malformed"


def test_pinned_root_is_never_replaced(client: UpdateClient, tmp_path: Path) -> None:
    before = (tmp_path / "state" / PINNED_ROOT).read_bytes()

    client.pin_root(SignedRepository(tmp_path / "thief").pinned)

    assert (tmp_path / "state" / PINNED_ROOT).read_bytes() == before


def test_second_process_is_told_that_the_first_is_busy(client: UpdateClient, refused: Refused, tmp_path: Path) -> None:
    client.refresh()
    with (tmp_path / "state" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert refused().name == "busy"


def test_read_only_state_folder_is_named(client: UpdateClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(path: Path, target: Path) -> Path:
        del path
        raise OSError(30, "Read-only file system", str(target))

    monkeypatch.setattr("pathlib.Path.replace", replace)

    with pytest.raises(UpdateError) as caught:
        client.refresh()

    assert caught.value.outcome.name == "storage"
    assert not list((tmp_path / "state").rglob("*.new"))


def test_client_without_python_tuf_names_the_extra(
    server: UpdateServer, repository_files: SignedRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from edgekit.core.errors import MissingDependencyError

    client = make_client(server.url, tmp_path / "bare", FakeClock(), repository_files.pinned)
    monkeypatch.setitem(sys.modules, "tuf.ngclient", None)

    with pytest.raises(MissingDependencyError) as caught:
        client.refresh()

    assert caught.value.hint == "pip install edgekit[agent]"
