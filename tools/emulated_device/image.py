"""Disk image, kernel and initramfs of an emulated machine, from the root of an arm64 Debian with a kernel in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from emulated_device.rootfs import BuildError, run

_DISK_BYTES = 3 << 30
_BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4")
# Debian builds none of these into its kernel. sch_netem and friends are for tests of bad networks.
_MODULES = (*_BOOT_MODULES, "virtio_net", "virtio_rng", "vivid", "sch_netem", "sch_tbf", "overlay", "loop", "autofs4")

_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
for m in $(/bin/busybox cat /order); do /bin/busybox insmod /m/$m; done
n=0
while [ ! -e /dev/vda ] && [ $n -lt 100 ]; do /bin/busybox sleep 0.1; n=$((n+1)); done
/bin/busybox mount -t ext4 -o rw /dev/vda /root || /bin/busybox sh
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /sys /proc
exec /bin/busybox switch_root /root /sbin/init
"""


def make_image(root: Path, out: Path) -> None:
    """Write `vmlinuz`, `initrd.img` and `root.ext4` (sparse) into a folder.

    Args:
        root: Made by `rootfs.build_root` with `is_machine`; its modules are thinned out.
        out: Folder for the three files; must exist.

    Raises:
        BuildError: The root has no kernel, or a tool is missing.
    """
    kernels = sorted(path.name for path in (root / "lib/modules").iterdir())
    if len(kernels) != 1:
        raise BuildError(f"{root} must have one kernel, it has {kernels}")
    shutil.copy(root / f"boot/vmlinuz-{kernels[0]}", out / "vmlinuz")
    _keep_modules(root, kernels[0])
    _make_initrd(root, kernels[0], out / "initrd.img")
    disk = out / "root.ext4"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", root, disk)


def _resolve_modules(root: Path, kernel: str, name: str) -> list[Path]:
    """Files of a module and of what it needs, in the order of loading."""
    words = ["modprobe", "-d", str(root), "-S", kernel, "--show-depends", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"this kernel has no module {name}: {done.stderr.strip()}")
    lines = [line.split() for line in done.stdout.splitlines()]
    return [Path(words[1]) for words in lines if words[:1] == ["insmod"]]


def _keep_modules(root: Path, kernel: str) -> None:
    """Remove the modules that no test loads: 300 MB of disk, and seconds of depmod."""
    run("depmod", "-b", root, kernel)
    kept = {path.resolve() for name in _MODULES for path in _resolve_modules(root, kernel, name)}
    for path in (root / "lib/modules" / kernel / "kernel").resolve().rglob("*.ko*"):
        if path not in kept:
            path.unlink()
    run("depmod", "-b", root, kernel)


def _make_initrd(root: Path, kernel: str, path: Path) -> None:
    folder = path.with_name("initrd.d")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("bin", "m", "proc", "sys", "dev", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin/busybox")
    order: list[str] = []
    for module in _BOOT_MODULES:
        for file in _resolve_modules(root, kernel, module):
            if file.name not in order:
                shutil.copy(file, folder / "m" / file.name)
                order.append(file.name)
    (folder / "order").write_text("\n".join(order) + "\n", encoding="utf-8")
    (folder / "init").write_text(_INIT, encoding="utf-8")
    (folder / "init").chmod(0o755)
    names = "\n".join(str(entry.relative_to(folder)) for entry in [folder, *sorted(folder.rglob("*"))])
    pack = ["cpio", "--create", "--format=newc", "--quiet", "--owner=0:0"]
    packed = subprocess.run(pack, cwd=folder, input=names.encode(), capture_output=True, check=False)
    if packed.returncode != 0:
        raise BuildError(f"cpio: {packed.stderr.decode()[-500:]}")
    path.write_bytes(packed.stdout)
    shutil.rmtree(folder)
