"""A card whose board looks for signed updates by itself, and begins its counter with what came on the card."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import write_run
from card_images import assert_whole, read_root, root_of, run_tool, stat_root
from command_line import edgekit
from edgekit.agent.config import load_config
from edgekit.core.progress import Silent
from edgekit.deploy.image.making import ImageRequest, make_image

URL = "https://models.example/www"
UNITS = "/etc/systemd/system"


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    """What `edgekit publish` left, as far as a root goes."""
    metadata = tmp_path / "www" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "1.root.json").write_text('{"version": 1}')
    return metadata.parent


def test_card_carries_the_units_their_address_and_the_root(
    card: Path, bundle_path: Path, trust: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.img"
    done = edgekit("image", card, bundle_path, "--out", out, "--updates", URL, "--trust", trust)

    assert done.code == 0, done
    assert_whole(out, tmp_path)
    (tmp_path / "agent.toml").write_text(read_root(out, "/etc/edgekit/agent.toml"))
    update = load_config(tmp_path / "agent.toml").update
    assert update is not None
    assert update.url == URL
    devices = Path(__file__).resolve().parents[3] / "devices"
    for name in ("edgekit-update.service", "edgekit-update.timer"):
        assert read_root(out, f"{UNITS}/{name}") == (devices / name).read_text()
    wanted = stat_root(out, f"{UNITS}/timers.target.wants/edgekit-update.timer")
    assert f'Fast link dest: "{UNITS}/edgekit-update.timer"' in wanted
    assert "ConditionPathExists=/opt/edgekit/venv" in read_root(
        out, f"{UNITS}/edgekit-update.timer.d/edgekit-setup.conf"
    )
    assert read_root(out, "/var/lib/edgekit/update/pinned-root.json") == '{"version": 1}'
    assert "no --trust" not in done.err


def test_card_without_updates_has_no_timer(card: Path, bundle_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.img"
    make_image(ImageRequest(image_path=card, model_path=bundle_path, out=out), Silent())

    assert "edgekit-update" not in run_tool("debugfs", "-R", f"ls {UNITS}", root_of(out)).stdout


def test_settings_that_name_updates_bring_the_timer_and_a_note(card: Path, bundle_path: Path, tmp_path: Path) -> None:
    config = f'bundle = "/var/lib/edgekit/current"\n[update]\nurl = "{URL}"\n'
    request = ImageRequest(image_path=card, model_path=bundle_path, out=tmp_path / "out.img", config=config)

    plan = make_image(request, Silent(), is_dry=True)

    assert f"{UNITS}/edgekit-update.timer" in {getattr(step, "path", "") for step in plan.steps}
    assert any("no --trust" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--updates", URL), "--updates without --trust"),
        (("--updates", URL, "--config", "agent.toml"), "--updates and --config"),
        (("--updates", "ftp://models.example", "--trust", "."), "ftp"),
    ],
)
def test_updates_that_cannot_work_are_refused(
    card: Path, tmp_path: Path, options: tuple[str, ...], complaint: str
) -> None:
    done = edgekit("image", card, write_run(tmp_path / "run"), "--out", tmp_path / "out.img", *options)

    assert done.code == 2, done
    assert complaint in done.err
