from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core import resources


@pytest.mark.parametrize("name", ["recipes", "devices"])
def test_find_resource_dir_finds_checkout_when_package_is_editable(name: str, repository: Path) -> None:
    assert resources.find_resource_dir(name) == repository / name


def test_find_resource_dir_prefers_package_when_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package_dir = tmp_path / "site-packages" / "edgekit"
    (package_dir / "recipes").mkdir(parents=True)
    (tmp_path / "site-packages" / "recipes").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE_DIR", package_dir)

    assert resources.find_resource_dir("recipes") == package_dir / "recipes"


def test_find_resource_dir_names_both_places_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PACKAGE_DIR", tmp_path / "edgekit")

    with pytest.raises(
        FileNotFoundError, match=f"no folder recipes at {tmp_path}/edgekit/recipes or {tmp_path}/recipes"
    ):
        resources.find_resource_dir("recipes")
