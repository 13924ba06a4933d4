"""docs/cli.md says what the commands say."""

from __future__ import annotations

from edgekit.cli.main import app
from write_cli_help import PAGE, refresh


def test_page_holds_the_help_of_today() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert refresh(page) == page, "run python tools/write_cli_help.py"


def test_page_has_a_section_for_every_verb() -> None:
    page = PAGE.read_text(encoding="utf-8")
    verbs = [command.name for command in app.registered_commands] + ["agent", "data", "device", "image", "keys"]

    missing = [verb for verb in verbs if f"\n## {verb}\n" not in page or f"$ edgekit {verb} --help\n" not in page]
    assert not missing
