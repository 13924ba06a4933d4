"""`edgekit flash`, `device` and `agent update` against an emulated arm64 board that has nothing but Debian 12.

Real: its systemd, its sshd, pip with arm64 wheels that are carried along, LiteRT's int8 kernels on a Cortex-A72, the
unit. Emulated: the processor, so that every second that is printed is the emulator's. The tests tell one story on one
board, in their order; each looks first which of the two releases serves.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from board_devices import fresh_board
from board_kitchen import Bundles, Kitchen, assert_fails_after_steps, make_bundles, note
from board_watch import Watch
from board_wheels import arm64_wheels
from command_line import Outcome, assert_fails, edgekit, start_process
from edgekit.bundle.reading import open_bundle
from emulated_device.places import default_folder
from update_server import UpdateServer, serving

pytestmark = [pytest.mark.board, pytest.mark.timeout(2400)]

_WHEELS = default_folder() / "wheels"
_CAMERA = "synthetic:320x240@10"
_PASSPHRASE = "correct horse battery"
_UPDATE = "systemctl start edgekit-update || { journalctl -u edgekit-update -n 40 --no-pager -o cat; exit 1; }"
"""What the timer does; what the board says of it when it fails."""


@pytest.fixture(scope="module")
def kitchen() -> Iterator[Kitchen]:
    """A board from which even the packages that its image brings along are taken away."""
    wheels = arm64_wheels(_WHEELS)
    with fresh_board() as board:
        board.remote.run("rm -rf /usr/local/lib/python3.11/dist-packages/*")
        yield Kitchen(board, wheels)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The built-in MobileNet at 8 bits, calibrated in two ways, and a release with wrong golden answers."""
    return make_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def flashed(kitchen: Kitchen, bundles: Bundles) -> Any:
    """What the first flash of the bare board said."""
    done = kitchen.flash(bundles.first, "--camera", _CAMERA)
    assert done.code == 0, done
    return done.document


def test_bare_board_is_provisioned_and_classifies(kitchen: Kitchen, bundles: Bundles, flashed: dict[str, Any]) -> None:
    kinds = [step["kind"] for step in flashed["steps"]]
    assert kinds == [
        "make_user", "make_folders", "make_environment", "write_file", "write_file", "install_bundle", "start_agent",
    ]  # fmt: skip
    findings = {one["rule"]: one for one in flashed["verdict"]["findings"]}
    assert {one["outcome"] for one in findings.values()} <= {"passed", "waived"}
    assert "8 of 8" in findings["golden"]["detail"]
    running = kitchen.serving()
    assert running["digest"] == open_bundle(bundles.first).digest == kitchen.whole_digest()
    assert running["num_frames"] > 0
    told = kitchen.ask()
    assert told["ActiveState"] == "active"
    assert kitchen.remote.run("uname -m").strip() == "aarch64"
    environment = kitchen.remote.run(f"tr '\\0' '\\n' </proc/{told['MainPID']}/environ")
    assert "QEMU_CPU=cortex-a72" in environment.splitlines()
    golden = findings["golden"]["detail"]
    note(f"first flash {flashed['seconds']:.0f} s, {flashed['num_bytes']:,} bytes; golden: {golden}")


@pytest.mark.usefixtures("flashed")
def test_second_flash_sends_nothing(kitchen: Kitchen, bundles: Bundles) -> None:
    kitchen.serving()
    seconds: list[float] = []
    for _ in range(3):
        done = kitchen.flash(bundles.first)
        assert done.code == 0, done
        assert (done.document["steps"], done.document["num_bytes"]) == ([], 0)
        seconds.append(done.document["seconds"])
    note(f"second flash {', '.join(f'{one:.1f}' for one in seconds)} s")


@pytest.mark.usefixtures("flashed")
def test_new_release_takes_over_without_a_restart(kitchen: Kitchen, bundles: Bundles) -> None:
    kitchen.serving()
    before = kitchen.ask()
    kitchen.remote.copy([Path(__file__).with_name("watch_answers.py")], "/root")
    with Watch(kitchen.remote, "exec python3 -u /root/watch_answers.py") as answers:
        answers.until(lambda _: len(answers.looks) > 20, 120)
        with start_process(*kitchen.words(bundles.second), stdout=subprocess.PIPE) as flashing:
            answers.until(lambda _: flashing.poll() is not None, 900)
            out, errors = flashing.communicate()
        num_before = len(answers.looks)
        answers.until(lambda _: len(answers.looks) > num_before + 20, 120)
        answers.stop()
    done = Outcome(flashing.returncode, out.decode(), errors.decode())
    assert done.code == 0, done
    assert [step["kind"] for step in done.document["steps"]] == ["make_folders", "install_bundle"]
    after = kitchen.ask()
    assert (after["MainPID"], after["NRestarts"]) == (before["MainPID"], before["NRestarts"])
    assert kitchen.whole_digest() == open_bundle(bundles.second).digest
    assert kitchen.serving()["model_sha256"] == open_bundle(bundles.second).manifest.model.sha256
    note(f"{gaps_of(answers.looks)}; flash {done.document['seconds']:.1f} s")


def gaps_of(looks: list[dict[str, Any]]) -> str:
    """How long nobody was answered: while the model changed, and in all the rest of the time, trial included."""
    models = [(look["at_s"], look["model"]) for look in looks if "model" in look]
    changes = [(before[0], after[0]) for before, after in itertools.pairwise(models) if before[1] != after[1]]
    ((began_s, ended_s),) = changes  # between these two snapshots
    times = [look["at_s"] for look in looks if "sequence" in look]
    gaps = [(later - earlier, earlier, later) for earlier, later in itertools.pairwise(times)]
    during = max(gap for gap, earlier, later in gaps if later >= began_s and earlier <= ended_s)
    others = sorted(gap for gap, earlier, later in gaps if later < began_s or earlier > ended_s)
    return (
        f"longest gap between answers while the model changed {during:.2f} s; before and after it {others[-1]:.2f} s, "
        f"99 of 100 below {others[len(others) * 99 // 100]:.2f} s, median {others[len(others) // 2]:.2f} s "
        f"({len(times)} answers in {times[-1] - times[0]:.0f} s)"
    )


@pytest.mark.usefixtures("flashed")
def test_bad_release_is_refused_with_its_numbers(kitchen: Kitchen, bundles: Bundles) -> None:
    before, running = kitchen.ask(), kitchen.serving()
    refused = kitchen.flash(bundles.bad)
    assert_fails_after_steps(
        refused,
        1,
        "did not pass the gate (golden: golden picture 1 of 8: expected",
        f"{before['digest'][:12]} serves on",
    )
    after = kitchen.ask()
    assert (after["current"], after["MainPID"]) == (before["current"], before["MainPID"])
    assert kitchen.whole_digest() == before["digest"]
    assert kitchen.serving()["model_sha256"] == running["model_sha256"]
    assert after["leftovers"] == "0"
    assert_fails_after_steps(kitchen.flash(bundles.bad), 1, "in quarantine: golden: golden picture 1 of 8")
    note(next(line for line in refused.err.splitlines() if line.startswith("error: ")))


def is_sent(kitchen: Kitchen, digest: str) -> bool:
    return (kitchen.disk / "incoming" / f"{digest}.ekb").exists()


def is_staging(kitchen: Kitchen, digest: str) -> bool:
    return any((kitchen.disk / "releases").glob(".new-*")) or (kitchen.disk / "releases" / digest).exists()


def is_tried(kitchen: Kitchen, digest: str) -> bool:
    del digest
    return (kitchen.disk / "trial").exists()


def is_switched(kitchen: Kitchen, digest: str) -> bool:
    link = kitchen.disk / "current"
    return link.is_symlink() and link.readlink().name == digest


MOMENTS: tuple[tuple[str, Callable[[Kitchen, str], bool], float], ...] = (
    ("sent", is_sent, 0.0),
    ("sent, later", is_sent, 3.0),
    ("staging", is_staging, 0.0),
    ("trial begins", is_tried, 0.0),
    ("in the trial", is_tried, 6.0),
    ("switched", is_switched, 0.0),
    ("switched, and told", is_switched, 0.3),
)


@pytest.mark.usefixtures("flashed")
@pytest.mark.parametrize(("name", "is_there", "later_s"), MOMENTS, ids=[name for name, _, _ in MOMENTS])
def test_power_cut_leaves_the_old_release_or_the_new_one(
    kitchen: Kitchen, bundles: Bundles, name: str, is_there: Callable[[Kitchen, str], bool], later_s: float
) -> None:
    old = kitchen.ask()["digest"]
    target = bundles.second if old == open_bundle(bundles.first).digest else bundles.first
    new = open_bundle(target).digest
    words = kitchen.words(target, "--again", "--downgrade")
    kitchen.remote.run("rm -f /var/lib/edgekit/incoming/*")  # of the cut before: it would look like this one's
    with start_process(*words, stdout=subprocess.PIPE) as flashing:
        end = time.monotonic() + 300
        while not is_there(kitchen, new):
            assert time.monotonic() < end
            assert flashing.poll() is None, flashing.communicate()
            time.sleep(0.002)
        time.sleep(later_s * random.uniform(0.8, 1.2))
        kitchen.board.cut()
        _, said = flashing.communicate(timeout=120)
    assert flashing.returncode == 3, said
    began = time.monotonic()
    kitchen.board.up()
    running = kitchen.serving()
    digest = kitchen.whole_digest()
    assert digest in {old, new}
    expected = open_bundle(target if digest == new else other(bundles, target)).manifest.model.sha256
    assert (running["digest"], running["model_sha256"]) == (digest, expected)
    told = kitchen.ask()
    assert told["current"] == f"releases/{digest}"
    assert int(told["releases"]) <= 2
    which = "new" if digest == new else "old"
    note(f"cut at {name!r}: the {which} release serves, whole, {time.monotonic() - began:.0f} s after power came back")


def other(bundles: Bundles, one: Path) -> Path:
    return bundles.second if one == bundles.first else bundles.first


@pytest.mark.usefixtures("flashed")
def test_board_is_flashed_after_a_power_cut_as_before(kitchen: Kitchen, bundles: Bundles) -> None:
    kitchen.serving()
    for bundle in (bundles.first, bundles.second):
        done = kitchen.flash(bundle, "--again", "--downgrade")
        assert done.code == 0, done
    assert kitchen.whole_digest() == open_bundle(bundles.second).digest
    assert kitchen.ask()["leftovers"] == "0"


@pytest.mark.usefixtures("flashed")
def test_device_goes_back_and_tells_of_it(kitchen: Kitchen, bundles: Bundles) -> None:
    assert kitchen.serving()["digest"] == open_bundle(bundles.second).digest
    before = kitchen.ask()
    back = kitchen.device("rollback", kitchen.remote.host, "--reason", "boots are called bags")
    assert back.code == 0, back
    running = kitchen.serving()
    assert running["digest"] == open_bundle(bundles.first).digest == kitchen.whole_digest()
    assert kitchen.ask()["MainPID"] == before["MainPID"]
    assert_fails_after_steps(kitchen.flash(bundles.second), 1, "in quarantine: boots are called bags")


@contextmanager
def another_host_key(kitchen: Kitchen, known_hosts: Path) -> Iterator[None]:
    """While inside, the board shows a key that nobody has seen."""
    remote = dataclasses.replace(kitchen.remote, known_hosts=known_hosts)
    key = "/etc/ssh/ssh_host_ed25519_key"
    kitchen.remote.run(
        f"cp -p {key} {key}.kept; cp -p {key}.pub {key}.pub.kept; rm {key} {key}.pub; "
        f"ssh-keygen -q -t ed25519 -N '' -f {key} && systemctl reload ssh"
    )
    try:
        remote.wait(120)
        yield
    finally:
        remote.run(f"mv -f {key}.kept {key}; mv -f {key}.pub.kept {key}.pub; systemctl reload ssh")
        kitchen.remote.wait(120)


@pytest.mark.usefixtures("flashed")
def test_changed_host_key_is_refused(kitchen: Kitchen, bundles: Bundles, tmp_path: Path) -> None:
    before = kitchen.ask()
    with another_host_key(kitchen, tmp_path / "known_hosts"):
        assert_fails(kitchen.flash(bundles.second), 3, "the host key of", "has changed", "edgekit device remove")
        status = kitchen.device("status", kitchen.remote.host)
        assert status.code == 1
        assert "has changed" in status.document["boards"][0]["error"]
    assert kitchen.serving()["digest"] == before["digest"] == kitchen.ask()["digest"]


@pytest.fixture(scope="module")
def www(tmp_path_factory: pytest.TempPathFactory, kitchen: Kitchen, bundles: Bundles) -> Iterator[UpdateServer]:
    """A signed repository with the newest release, on the host's end of the cable."""
    folder = tmp_path_factory.mktemp("trust")
    secret = folder / "passphrase"
    secret.write_text(f"{_PASSPHRASE}\n", encoding="utf-8")
    made = edgekit("keys", "init", folder / "keys", "--root-keys", folder / "stick", "--passphrase-file", secret)
    assert made.code == 0, made
    words = ("--to", folder / "www", "--keys", folder / "keys", "--passphrase-file", secret)
    published = edgekit("publish", bundles.newest, *words)
    assert published.code == 0, published
    with serving(folder / "www", host=kitchen.board.network.host_address) as server:
        yield server


@pytest.mark.usefixtures("flashed")
def test_signed_release_is_fetched_and_installed_by_the_board_itself(
    kitchen: Kitchen, bundles: Bundles, www: UpdateServer
) -> None:
    serving_now = next(one for one in bundles if open_bundle(one).digest == kitchen.ask()["digest"])
    told = kitchen.flash(serving_now, "--trust", www.folder, "--updates", www.url, "--camera", _CAMERA)
    assert told.code == 0, told
    assert "start_timer" in [step["kind"] for step in told.document["steps"]]
    kitchen.serving()
    assert kitchen.remote.run("systemctl is-active edgekit-update.timer").strip() == "active"
    before = kitchen.ask()
    kitchen.remote.run(_UPDATE, timeout_s=600)
    journal = kitchen.remote.run("journalctl -u edgekit-update --no-pager -o cat")
    assert "kitchen release 4" in journal, journal
    assert kitchen.whole_digest() == open_bundle(bundles.newest).digest
    running = kitchen.serving()
    assert (running["release"], running["digest"]) == (4, open_bundle(bundles.newest).digest)
    assert kitchen.ask()["MainPID"] == before["MainPID"]
    num_bundles = sum(path.endswith(".ekb") for path in www.paths())
    kitchen.remote.run(_UPDATE, timeout_s=600)
    assert "nothing newer is published" in kitchen.remote.run("journalctl -u edgekit-update --no-pager -o cat")
    assert sum(path.endswith(".ekb") for path in www.paths()) == num_bundles == 1
    note(next(line for line in journal.splitlines() if line.startswith("fetched")))


@pytest.mark.usefixtures("flashed", "www")
def test_forged_release_is_not_taken(kitchen: Kitchen, www: UpdateServer) -> None:
    before = kitchen.ask()
    timestamp = www.folder / "metadata" / "timestamp.json"
    genuine = timestamp.read_bytes()
    try:
        timestamp.write_bytes(genuine.replace(b'"version":1', b'"version":9').replace(b'"version": 1', b'"version": 9'))
        assert timestamp.read_bytes() != genuine
        failed = kitchen.remote.run("systemctl start edgekit-update || echo failed", timeout_s=600)
        assert failed.strip().endswith("failed")
        assert "error: forged" in kitchen.remote.run("journalctl -u edgekit-update -n 20 --no-pager -o cat")
    finally:
        timestamp.write_bytes(genuine)
    assert kitchen.ask()["digest"] == before["digest"]
