"""What system an image holds: told by its own os-release and package list, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from edgekit.core.errors import IntegrityError
from edgekit.deploy.image.boot_files import COMMAND_LINE, read_boot_file
from edgekit.deploy.image.partitions import (
    HEAD_BYTES,
    MBR_BYTES,
    CardLayout,
    ExtFacts,
    parse_ext,
    parse_fat,
    parse_layout,
)
from edgekit.deploy.image.root_files import Entry, RootFiles

OS_RELEASE = "/usr/lib/os-release"
PACKAGES = "/var/lib/dpkg/status"
HOSTNAME = "/etc/hostname"
HOSTS = "/etc/hosts"
CLOUD_SETTINGS = "/etc/cloud/cloud.cfg.d"
MACHINES = {"arm64": "aarch64", "amd64": "x86_64", "armhf": "armv7l"}
"""What `uname -m` says, by Debian's word."""


class System(msgspec.Struct, frozen=True, kw_only=True):
    """The operating system in an image.

    Args:
        title: For people: "Debian GNU/Linux 12 (bookworm)".
        version: Of it, "12".
        architecture: As `uname -m` would say for its programs.
        python: (major, minor) of its own Python.
        packages: Version of each installed package that matters here, by name.
    """

    title: str
    version: str
    architecture: str
    python: tuple[int, int]
    packages: Mapping[str, str]

    @property
    def has_venv(self) -> bool:
        """Whether its Python makes environments with pip in them."""
        return f"python{self.python[0]}.{self.python[1]}-venv" in self.packages


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An image, looked at.

    Args:
        layout: Where its partitions lie.
        root: What the root file system says of itself.
        system: What is installed in it.
        command_line: The kernel's, without the end of the line.
        hostname: As it is; "" where there is none.
        hosts: Content of /etc/hosts.
        entries: What lies already at the paths that were asked for.
    """

    layout: CardLayout
    root: ExtFacts
    system: System
    command_line: str
    hostname: str
    hosts: str
    entries: Mapping[str, Entry]


def read_layout(image_path: Path) -> tuple[CardLayout, ExtFacts]:
    """Read partition table and file system heads; nothing else of them is believed.

    Raises:
        IntegrityError: Another layout, truncated, or a file system that was not unmounted cleanly.
    """
    size_bytes = image_path.stat().st_size
    with image_path.open("rb") as stream:
        layout = parse_layout(stream.read(MBR_BYTES), size_bytes)
        heads = []
        for partition in (layout.boot, layout.root):
            stream.seek(partition.start)
            heads.append(stream.read(HEAD_BYTES))
    parse_fat(heads[0], layout.boot)
    return layout, parse_ext(heads[1], layout.root)


def read_facts(image_path: Path) -> ImageFacts:
    """Look at an image.

    Args:
        image_path: Plain image.

    Returns:
        Of `entries` only what tells the system.

    Raises:
        IntegrityError: Another layout, another system, or damage.
        MissingDependencyError: A program is missing.
    """
    layout, root = read_layout(image_path)
    files = RootFiles(image_path, layout.root.start)
    contents = files.read((OS_RELEASE, PACKAGES, HOSTNAME, HOSTS))
    system = parse_system(contents.get(OS_RELEASE, b"").decode(errors="replace"), contents.get(PACKAGES, b""))
    line = read_boot_file(image_path, layout.boot.start, COMMAND_LINE)
    if line is None:
        raise IntegrityError(
            f"no {COMMAND_LINE} on the boot partition: not a Raspberry Pi OS image",
            hint="take a Raspberry Pi OS image (64 bit)",
        )
    return ImageFacts(
        layout=layout,
        root=root,
        system=system,
        command_line=" ".join(line.decode(errors="replace").split()),
        hostname=contents.get(HOSTNAME, b"").decode(errors="replace").strip(),
        hosts=contents.get(HOSTS, b"").decode(errors="replace"),
        entries=files.look([CLOUD_SETTINGS]),
    )


def with_entries(facts: ImageFacts, image_path: Path, paths: Iterable[str]) -> ImageFacts:
    """The facts with what lies at paths, and at the folders above them."""
    asked = sorted({one for path in paths for one in (path, *_parents(path))})
    found = RootFiles(image_path, facts.layout.root.start).look(asked)
    return msgspec.structs.replace(facts, entries={**facts.entries, **found})


def parse_system(os_release: str, status: bytes) -> System:
    """Tell the system from os-release(5) and dpkg's list of packages.

    Raises:
        IntegrityError: It is no Debian, or has no Python.
    """
    words = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line and not line.startswith("#"))
    told = {name: value.strip().strip("\"'") for name, value in words.items()}
    packages, architectures = _parse_packages(status.decode(errors="replace"))
    title = told.get("PRETTY_NAME", "") or "no system that says its name"
    if not packages or "base-files" not in architectures:
        raise IntegrityError(
            f"the root file system holds {title}, expected Raspberry Pi OS: no package list at {PACKAGES}",
            hint="take a Raspberry Pi OS image (64 bit)",
        )
    python = packages.get("python3", "")
    numbers = python.split(":")[-1].split(".")[:2]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise IntegrityError(f"{title} in the image has no Python (package python3)", hint="take an image that has")
    return System(
        title=title,
        version=told.get("VERSION_ID", ""),
        architecture=MACHINES.get(architectures["base-files"], architectures["base-files"]),
        python=(int(numbers[0]), int(numbers[1])),
        packages=packages,
    )


def _parse_packages(status: str) -> tuple[dict[str, str], dict[str, str]]:
    """Versions and architectures of the installed packages (deb-control(5), paragraphs of "Key: value")."""
    versions: dict[str, str] = {}
    architectures: dict[str, str] = {}
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith((" ", "\t"))
        )
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            versions[fields["Package"]] = fields.get("Version", "")
            architectures[fields["Package"]] = fields.get("Architecture", "")
    return versions, architectures


def _parents(path: str) -> list[str]:
    """Folders above a path, the root left out.

    >>> _parents("/etc/edgekit/agent.toml")
    ['/etc', '/etc/edgekit']
    """
    words = path.strip("/").split("/")
    return ["/" + "/".join(words[:count]) for count in range(1, len(words))]
