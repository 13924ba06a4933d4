"""What a later flash plans on a board that has been flashed: configuration, timer, and what broke off."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from edgekit.deploy.ssh.configuration import AgentSettings, find_camera, wants_updates
from edgekit.deploy.ssh.layout import UPDATE_SERVICE, UPDATE_TIMER, Layout, unit_text
from edgekit.deploy.ssh.plan import StartAgent, WriteFile
from flash_plans import done, found, kinds, plan, wishes


def test_board_looks_for_updates_where_it_was_told_and_goes_on_to() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    made = plan(found(), told)
    files = {step.path: step.content for step in made.steps if isinstance(step, WriteFile)}
    assert kinds(made)[-2:] == ["start_agent", "start_timer"]
    assert wants_updates(files["/etc/edgekit/agent.toml"])
    assert "edgekit agent update" in files["/etc/systemd/system/edgekit-update.service"]

    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(done(told), update_sha256=tuple(hashes), has_timer=True)
    assert kinds(plan(there)) == []  # nothing is said this time: the configuration is kept
    half = msgspec.structs.replace(there, update_sha256=(hashes[0], None))
    assert kinds(plan(half)) == ["make_folders", "write_file", "start_timer"]  # the agent is left alone
    assert kinds(plan(msgspec.structs.replace(there, has_timer=False))) == ["make_folders", "start_timer"]


@pytest.mark.parametrize("digest", ["ab" * 32, "00" * 32])
def test_agent_that_an_interrupted_flash_did_not_start_again_is_started_again(digest: str) -> None:
    """Everything on the disk is right, the process is of before."""
    behind = msgspec.structs.replace(done(), unstarted=("edgekit-agent.service",), digest=digest)

    made = plan(behind)

    install = [] if digest == wishes().payload.digest else ["install_bundle"]
    assert kinds(made) == ["make_folders", *install, "start_agent"]
    assert made.units_to_start == ("edgekit-agent.service",)
    (start,) = [step for step in made.steps if isinstance(step, StartAgent)]
    assert start.is_restart
    assert "did not come to its end" in start.why


def test_timer_that_an_interrupted_flash_did_not_start_is_started() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(
        done(told), update_sha256=tuple(hashes), has_timer=True, unstarted=("edgekit-update.timer",)
    )

    assert kinds(plan(there)) == ["make_folders", "start_timer"]


def test_plan_without_a_new_start_announces_none() -> None:
    assert plan(msgspec.structs.replace(done(), digest="00" * 32)).units_to_start == ()
    assert plan(found()).units_to_start == ()  # nothing runs yet: the next flash sees that by itself


def test_updates_go_on_when_only_the_camera_is_named() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(done(told), update_sha256=tuple(hashes), has_timer=True)

    made = plan(there, wishes(settings=AgentSettings(camera="v4l2:1")))

    assert kinds(made) == ["make_folders", "write_file", "start_agent"]
    (written,) = [step.content for step in made.steps if isinstance(step, WriteFile)]
    assert find_camera(written) == "v4l2:1"
    assert 'url = "http://updates.local/models"' in written


def test_updates_end_with_their_timer_when_that_is_said() -> None:
    told = wishes(settings=AgentSettings(updates="http://updates.local/models"))
    hashes = [hashlib.sha256(unit_text(Layout(), name).encode()).hexdigest() for name in (UPDATE_SERVICE, UPDATE_TIMER)]
    there = msgspec.structs.replace(done(told), update_sha256=tuple(hashes), has_timer=True)

    made = plan(there, wishes(settings=AgentSettings(updates="")))

    assert kinds(made) == ["make_folders", "write_file", "start_agent", "stop_timer"]
    (written,) = [step.content for step in made.steps if isinstance(step, WriteFile)]
    assert not wants_updates(written)
    after = msgspec.structs.replace(there, config=written, has_timer=False)
    assert kinds(plan(after, wishes(settings=AgentSettings(updates="")))) == []


def test_configuration_that_no_option_can_change_is_refused_and_kept() -> None:
    odd = msgspec.structs.replace(done(), config='camera.source = "v4l2:0"\n')

    made = plan(odd, wishes(settings=AgentSettings(camera="v4l2:1")))

    assert made.steps == ()
    assert "written so that no option can change it" in made.refusals[0]
    assert plan(odd, wishes()).refusals == ()  # nothing is said: it stays


def test_configuration_that_is_no_toml_is_written_anew_when_options_are_given() -> None:
    broken = msgspec.structs.replace(done(), config="no toml [")

    made = plan(broken, wishes(settings=AgentSettings(camera="v4l2:1")))

    (written,) = [step.content for step in made.steps if isinstance(step, WriteFile)]
    assert find_camera(written) == "v4l2:1"
