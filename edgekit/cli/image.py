"""`edgekit image`: a Raspberry Pi OS image that classifies after its first boot, and cards written from images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from edgekit.cli.console import Bars, note, print_json, show
from edgekit.core.errors import UsageError

if TYPE_CHECKING:
    from edgekit.deploy.image.card import CardPlan
    from edgekit.deploy.image.first_boot import FirstBoot, Wifi
    from edgekit.deploy.image.plan import ImagePlan

MAKE = "make"
UpdatesOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Where it looks for signed updates, with --trust.")
]
TrustOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Published updates, or keys, whose root is pinned.")
]
_MAX_SETTING_BYTES = 64 * 1024
"""Of files with keys, passwords and settings: who names an image there by mistake is told so."""


class MakeByDefault(TyperGroup):
    """A group whose first word may be an image: `edgekit image IN.img RUN` means `edgekit image make IN.img RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own context type moved
        """Put the command's name before what is none."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [MAKE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=MakeByDefault,
    help="SD cards: put agent, model and first-boot settings into an image (edgekit image IN.img RUN), write a card.",
    no_args_is_help=True,
)


@app.command(MAKE)
def make_command(
    image: Annotated[Path, typer.Argument(metavar="IN.img", help="Raspberry Pi OS, 64 bit; .xz, .gz, .zip too.")],
    model: Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="Run folder of compress, or a bundle.")],
    out: Annotated[Path, typer.Option(help="The new image.")],
    boards: Annotated[
        list[str] | None, typer.Option("--for", metavar="BOARD", help="Board; may be given again.  [default: all]")
    ] = None,
    hostname: Annotated[str | None, typer.Option(help="Name of the board.")] = None,
    user: Annotated[str | None, typer.Option(help="Who logs in, with --ssh-key.  [default: pi]")] = None,
    ssh_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public keys that may log in; turns the SSH server on.")
    ] = None,
    wifi: Annotated[str | None, typer.Option(metavar="SSID", help="Wireless network.")] = None,
    wifi_password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its password, in the first line.")
    ] = None,
    wifi_country: Annotated[str | None, typer.Option(metavar="CC", help="Where the board is, e.g. DE.")] = None,
    camera: Annotated[str | None, typer.Option(help="As for agent run.  [default: the board's usual one]")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The agent's settings (TOML), in place of --camera.")
    ] = None,
    updates: UpdatesOption = None,
    trust: TrustOption = None,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Wheels to carry along, for a board without network.")
    ] = None,
    no_grow: Annotated[bool, typer.Option("--no-grow", help="Do not enlarge the root partition.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Put the agent, a model and first-boot settings into an image. No root needed; the input stays as it is.

    `edgekit image IN.img RUN --out OUT.img` means the same.
    """
    from edgekit.cli.bundle import date_of_environment
    from edgekit.cli.flash import read_root, read_updates
    from edgekit.deploy.image.making import ImageRequest, make_image

    _check_together(camera, config, updates, trust)
    request = ImageRequest(
        image_path=image,
        model_path=model,
        out=out,
        boards=tuple(boards or ()),
        first_boot=_first_boot(hostname, user, ssh_key, _wifi(wifi, wifi_password_file, wifi_country)),
        config=None if config is None else _settings(config),
        camera=camera,
        updates=read_updates(updates),
        root_json=None if trust is None else read_root(trust),
        wheels_dir=wheels,
        may_grow=not no_grow,
        date_unix_s=date_of_environment(),
    )
    with Bars() as bars:
        plan = make_image(request, bars, is_dry=dry_run)
    for line in plan.notes:
        note(f"note: {line}")
    if as_json:
        print_json(plan_document(plan, out, is_dry=dry_run))
        return
    for line in plan_lines(plan, out, is_dry=dry_run):
        show(line)


@app.command("write")
def write_command(
    image: Annotated[Path, typer.Argument(metavar="OUT.img", help="Image; .xz, .gz, .zip too.")],
    device: Annotated[Path, typer.Argument(metavar="/dev/sdX", help="Card: a whole disk, not mounted.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[
        Path | None, typer.Option(metavar="/dev/sdX", help="Take this disk though it is not removable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write an image onto a card: only what is in use, and all of it read back and compared."""
    import tempfile

    from edgekit.deploy.image.card import CardRequest, write_card

    request = CardRequest(image_path=image, device_path=device, force=force, scratch_dir=Path(tempfile.gettempdir()))
    planned: list[CardPlan] = []

    def confirm(plan: CardPlan) -> bool:
        planned.append(plan)
        return not dry_run and (yes or _asked(plan))

    with Bars() as bars:
        report = write_card(request, bars, confirm=confirm)
    plan = planned[0]
    if as_json:
        print_json({"written": report is not None, "sha256": None if report is None else report.sha256, "plan": plan})
        return
    what = f"{plan.used_bytes:,} of {plan.image_bytes:,} bytes in {plan.num_ranges:,} pieces"
    if report is None:
        show(f"not written: {what} would go onto {card_line(plan)}")
    else:
        show(f"{card_line(plan)}: {what} written, read back and equal (SHA-256 {report.sha256[:16]})")


def card_line(plan: CardPlan) -> str:
    """A card in a few words."""
    disk = plan.disk
    return f"{disk.path} ({', '.join(filter(None, (disk.model, f'{disk.size_bytes / 1e9:.1f} GB')))})"


def plan_document(plan: ImagePlan, out: Path, *, is_dry: bool) -> dict[str, Any]:
    """What `--json` prints. No secret is in it."""
    from edgekit.deploy.image.plan import show_step

    return {
        "path": out,
        "written": not is_dry,
        "system": plan.system,
        "boards": plan.boards,
        "bundle": {"name": plan.manifest.name, "release": plan.manifest.release, "digest": plan.digest},
        "runtime": plan.runtime,
        "requirements": plan.requirements,
        "needed_bytes": plan.needed_bytes,
        "free_bytes": plan.free_bytes,
        "date_unix_s": plan.date_unix_s,
        "steps": [show_step(step) for step in plan.steps],
        "notes": plan.notes,
    }


def plan_lines(plan: ImagePlan, out: Path, *, is_dry: bool) -> list[str]:
    """A plan for people."""
    from edgekit.deploy.image.plan import step_line

    lines = [
        f"system  {plan.system}",
        f"boards  {', '.join(plan.boards)}",
        f"bundle  {plan.manifest.name} release {plan.manifest.release}, digest {plan.digest[:16]}",
        f"runtime {plan.runtime}",
        f"space   {plan.needed_bytes:,} bytes of {plan.free_bytes:,} free in the root file system",
    ]
    if is_dry:
        return [*lines, *map(step_line, plan.steps), f"nothing was written: {out} would be made of this"]
    return [*lines, f"{out}: written and checked; edgekit image write {out} /dev/sdX puts it onto a card"]


def _check_together(camera: str | None, config: Path | None, updates: str | None, trust: Path | None) -> None:
    """Refuse options that do not go together."""
    if camera is not None and config is not None:
        raise UsageError("--camera and --config", hint="name the camera in the settings file")
    if updates is not None and config is not None:
        raise UsageError("--updates and --config", hint="name the address in the settings file: url in [update]")
    if updates is not None and trust is None:
        raise UsageError(
            "--updates without --trust: the board would believe nobody", hint="--trust DIR pins whose updates it takes"
        )


def _first_boot(hostname: str | None, user: str | None, ssh_key: Path | None, wifi: Wifi | None) -> FirstBoot:
    from edgekit.deploy.image.first_boot import FirstBoot, check_hostname, check_user, parse_ssh_keys

    if user is not None and ssh_key is None:
        raise UsageError(f"user {user} without an SSH key: nobody could log in", hint="--ssh-key FILE names one")
    return FirstBoot(
        hostname=None if hostname is None else check_hostname(hostname),
        user=None if user is None else check_user(user),
        ssh_keys=() if ssh_key is None else parse_ssh_keys(_read_setting(ssh_key), str(ssh_key)),
        wifi=wifi,
    )


def _wifi(ssid: str | None, password_file: Path | None, country: str | None) -> Wifi | None:
    from edgekit.deploy.image.first_boot import make_wifi

    if ssid is None:
        if password_file is not None or country is not None:
            raise UsageError("a Wi-Fi password or country without a network", hint="name it with --wifi SSID")
        return None
    password = None if password_file is None else _read_setting(password_file).split("\n", 1)[0].rstrip("\r")
    return make_wifi(ssid, password, country)


def _settings(path: Path) -> str:
    """The agent's settings, as the agent itself will read them."""
    from edgekit.agent.config import load_config

    text = _read_setting(path)
    bundle = load_config(path).bundle
    if bundle != "/var/lib/edgekit/current":
        raise UsageError(
            f"{path}: bundle is {bundle!r}, expected '/var/lib/edgekit/current'", hint="that is where it lies on a card"
        )
    return text


def _read_setting(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_SETTING_BYTES:
            raise UsageError(f"{path} has {path.stat().st_size:,} bytes, expected {_MAX_SETTING_BYTES:,} at most")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text (UTF-8)") from error


def _asked(plan: CardPlan) -> bool:
    import sys

    if not sys.stdin.isatty():
        raise UsageError(f"{card_line(plan)} would be overwritten", hint="--yes says that it may be")
    return typer.confirm(f"Overwrite everything on {card_line(plan)}?", err=True)
