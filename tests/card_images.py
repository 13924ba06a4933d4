"""Card images for tests, made as an ordinary user would: the layout of Raspberry Pi OS, and a few files in it.

The root file system has what tells a system (os-release, dpkg's list), users, and the folders that such a system has;
no program in it would run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from bundles import plain_contents, with_manifest
from edgekit.bundle.manifest import Manifest
from edgekit.bundle.reading import write_bundle

SECTOR = 512
MIB = 1 << 20
BOOT_START, BOOT_BYTES = 4 * MIB, 40 * MIB
ROOT_START = BOOT_START + BOOT_BYTES
DATE = 1_700_000_000
COMMAND_LINE = (
    "console=serial0,115200 console=tty1 root=PARTUUID=12345678-02 rootfstype=ext4 fsck.repair=yes rootwait quiet "
    "init=/usr/lib/raspberrypi-sys-mods/firstboot"
)
TOOLS = ("mke2fs", "mkfs.vfat", "mcopy", "sfdisk", "debugfs", "e2fsck", "fsck.vfat")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_FOLDERS = (
    "etc/systemd/system/multi-user.target.wants",
    "etc/ssh/sshd_config.d",
    "etc/sudoers.d",
    "etc/NetworkManager/system-connections",
    "usr/lib/systemd/system",
    "var/lib/dpkg",
    "var/log",
    "opt",
    "boot/firmware",
    "home/pi",
)


class CardSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an image holds.

    Args:
        root_bytes: Of the root partition.
        block_bytes: Of its file system.
        fill_bytes: Of it taken by one file.
        version: Of Debian.
        architecture: Debian's word.
        packages: Beside base-files: name to version.
        command_line: Of the kernel; None for no such file.
        folders: Made beside the usual ones.
    """

    root_bytes: int = 64 * MIB
    block_bytes: int = 1024
    fill_bytes: int = 0
    version: str = "12"
    architecture: str = "arm64"
    packages: Mapping[str, str] = MappingProxyType(
        {
            "python3": "3.11.2-1+b1",
            "python3.11-venv": "3.11.2-6+deb12u6",
            "python3-picamera2": "0.3.25-1",
            "network-manager": "1.42.4-1",
            "userconf-pi": "0.11",
        }
    )
    command_line: str | None = COMMAND_LINE
    folders: tuple[str, ...] = ()


def missing_tools() -> list[str]:
    """Programs that a test of images needs and that are not there."""
    return [tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None]


def run_tool(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of the judges: sfdisk, e2fsck, debugfs, mtools, fsck.vfat."""
    environ = {**os.environ, "PATH": _PATH, "LC_ALL": "C", "E2FSPROGS_FAKE_TIME": str(DATE), "MTOOLS_SKIP_CHECK": "1"}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def make_card(folder: Path, spec: CardSpec) -> Path:
    """Make an image; the folder is used for its parts, too."""
    folder.mkdir(parents=True, exist_ok=True)
    tree, root, boot, card = folder / "tree", folder / "root.img", folder / "boot.img", folder / "card.img"
    _fill_tree(tree, spec)
    uuid = "11111111-2222-3333-4444-555555555555"
    extended = ["-L", "rootfs", "-U", uuid, "-E", f"root_owner=0:0,hash_seed={uuid}"]
    for path, size in ((root, spec.root_bytes), (boot, BOOT_BYTES), (card, ROOT_START + spec.root_bytes)):
        with path.open("wb") as stream:
            stream.truncate(size)
    commands: list[list[str | Path]] = [
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(spec.block_bytes), *extended, "-d", tree, root],
        ["mkfs.vfat", "-F", "32", "-s", "1", "-n", "BOOTFS", "-i", "89abcdef", "--invariant", boot],
    ]
    files = {"config.txt": "arm_64bit=1\n", "kernel8.img": "no kernel" * 1000}
    if spec.command_line is not None:
        files["cmdline.txt"] = spec.command_line + "\n"
    for name, text in files.items():
        (folder / name).write_text(text)
        commands.append(["mcopy", "-i", boot, folder / name, "::"])
    for command in commands:
        ran = run_tool(*command)
        assert ran.returncode == 0, ran
    table = f"label: dos\nlabel-id: 0x12345678\nstart={BOOT_START // SECTOR},size={BOOT_BYTES // SECTOR},type=c\n"
    table += f"start={ROOT_START // SECTOR},size={spec.root_bytes // SECTOR},type=83\n"
    partition(card, table)
    with card.open("r+b") as stream:
        for part, start in ((boot, BOOT_START), (root, ROOT_START)):
            stream.seek(start)
            stream.write(part.read_bytes())
            part.unlink()
    shutil.rmtree(tree)
    return card


def partition(card: Path, table: str) -> None:
    """Write a partition table with sfdisk."""
    environ = {**os.environ, "PATH": _PATH}
    command = ["sfdisk", "-q", "--no-tell-kernel", str(card)]
    subprocess.run(command, input=table, env=environ, check=True, capture_output=True, text=True)


def root_of(card: Path) -> str:
    """The root file system as the programs of e2fsprogs take it."""
    return f"{card}?offset={ROOT_START}"


def read_root(card: Path, path: str) -> str:
    """A file of the root file system, by debugfs."""
    ran = run_tool("debugfs", "-R", f"cat {path}", root_of(card))
    assert "File not found" not in ran.stderr, ran.stderr
    return ran.stdout


def stat_root(card: Path, path: str) -> str:
    """What debugfs says of a path."""
    return run_tool("debugfs", "-R", f"stat {path}", root_of(card)).stdout


def read_boot(card: Path, name: str) -> str:
    """A file of the boot partition, by mtools."""
    ran = run_tool("mtype", "-i", f"{card}@@{BOOT_START}", f"::{name}")
    assert ran.returncode == 0, ran
    return ran.stdout


def assert_whole(card: Path, folder: Path) -> None:
    """Both file systems are clean: e2fsck and fsck.vfat say so."""
    checked = run_tool("e2fsck", "-f", "-n", root_of(card))
    assert checked.returncode == 0, checked
    boot = folder / "boot-part.img"
    with card.open("rb") as stream:
        stream.seek(BOOT_START)
        boot.write_bytes(stream.read(BOOT_BYTES))
    checked = run_tool("fsck.vfat", "-n", boot)
    boot.unlink()
    assert checked.returncode == 0, checked


def write_bundle_for(path: Path, boards: tuple[str, ...]) -> Path:
    """A bundle for boards; the model in it would not run."""

    def change(manifest: Manifest) -> Manifest:
        compatible = msgspec.structs.replace(manifest.compatible, boards=boards)
        return msgspec.structs.replace(manifest, compatible=compatible)

    write_bundle(path, with_manifest(plain_contents(), change))
    return path


def _fill_tree(tree: Path, spec: CardSpec) -> None:
    for name in (*_FOLDERS, *spec.folders):
        (tree / name).mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    title = f"Debian GNU/Linux {spec.version}"
    files = {
        "usr/lib/os-release": f'PRETTY_NAME="{title}"\nVERSION_ID="{spec.version}"\nID=debian\n',
        "var/lib/dpkg/status": _status(spec),
        "etc/hostname": "raspberrypi\n",
        "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n\n127.0.1.1\traspberrypi\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\npi:x:1000:1000:,,,:/home/pi:/bin/bash\n",
    }
    for name, text in files.items():
        (tree / name).write_text(text)
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    if spec.fill_bytes:
        (tree / "opt/fill").write_bytes(b"x" * spec.fill_bytes)


def _status(spec: CardSpec) -> str:
    packages = {"base-files": "12.4+deb12u5", **spec.packages}
    kinds = dict.fromkeys(packages, spec.architecture)
    paragraphs = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: {kinds[name]}\nVersion: {version}\n"
        "Description: a package\n that says: more\n"
        for name, version in packages.items()
    ]
    paragraphs.append("Package: gone\nStatus: deinstall ok config-files\nArchitecture: arm64\nVersion: 1\n")
    return "\n".join(paragraphs)
