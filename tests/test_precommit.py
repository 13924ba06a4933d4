"""The pre-commit hooks stay local and in step with `make lint`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent


def test_precommit_hooks_fetch_nothing_and_run_what_lint_runs() -> None:
    settings = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint: .*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert recipe is not None

    assert [repository["repo"] for repository in settings["repos"]] == ["local"]
    hooks = {" ".join(hook["entry"].split()[:2]) for hook in settings["repos"][0]["hooks"]}
    programs = {hook.removeprefix(".venv/bin/").split()[0] for hook in hooks}
    assert programs == set(re.findall(r"\$\(BIN\)/([\w-]+)", recipe[1]))
