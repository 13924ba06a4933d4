"""Where the files lie that ship with edgekit but are no Python: recipes and boards."""

from __future__ import annotations

from pathlib import Path

_PACKAGE_DIR = Path(__file__).resolve().parent.parent


def find_resource_dir(name: str) -> Path:
    """Folder of shipped files: inside the package when installed from a wheel, else in the root of the checkout.

    Args:
        name: "recipes" or "devices".

    Raises:
        FileNotFoundError: The installation is broken: the folder is in neither place.

    >>> find_resource_dir("recipes").name
    'recipes'
    """
    places = (_PACKAGE_DIR / name, _PACKAGE_DIR.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no folder {name} at {places[0]} or {places[1]}: reinstall edgekit")
