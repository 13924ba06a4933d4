"""Make the root of an arm64 Debian (what Raspberry Pi OS is) on any Debian machine, without running arm64 code.

`mmdebstrap --variant=extract` unpacks the packages and skips their maintainer scripts; what those would have done is
done here, as far as a small board needs it. That takes seconds where an emulated installation takes ten minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent

SUITE = "bookworm"
PYTHON_VERSION = "311"
"""Of the suite: wheels are chosen for it."""
WHEELS_DIR = "/usr/local/lib/python3.11/dist-packages"
"""On the board."""

PACKAGES = (
    "base-files base-passwd bash coreutils dash libc-bin sed grep findutils gzip tar util-linux mount login passwd "
    "python3 python3-venv openssh-server openssh-sftp-server iproute2 procps hostname libstdc++6 libgomp1 systemd "
    "systemd-sysv udev kmod dbus libpam-modules v4l-utils e2fsprogs"
)
MACHINE_PACKAGES = ("linux-image-arm64", "busybox-static")
"""What a whole machine has besides: a kernel, and a shell for its initramfs."""

WHEELS = (
    "ai-edge-litert numpy opencv-python-headless msgspec psutil rich typer "
    "paho-mqtt prometheus-client starlette uvicorn"
)
"""What `edgekit[agent]` installs on a board, less onnxruntime: one runtime is enough. Pinned by constraints.txt."""

# Services of a minimal image that cost seconds of emulated start and serve nobody here.
_MASKED = (
    "systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer "
    "e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service systemd-hwdb-update.service "
    "systemd-journal-catalog-update.service systemd-update-done.service ldconfig.service "
    "systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount"
)
_MASKED_IN_NAMESPACES = (
    "console-getty.service getty@tty1.service systemd-sysctl.service systemd-sysusers.service "
    "systemd-tmpfiles-setup-dev.service systemd-udevd.service systemd-udevd-control.socket "
    "systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-networkd.service systemd-networkd.socket "
    "sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount"
)


@dataclass(frozen=True)
class RootPlan:
    """What is put into a root.

    Args:
        is_machine: With a kernel and its modules, for qemu-system; otherwise for namespaces on the host's kernel.
        cpu: qemu's name of the processor. Never "max": its int8 answers were seen to be wrong.
        hostname: Of the board.
    """

    is_machine: bool
    cpu: str = "cortex-a72"
    hostname: str = "fake-pi"

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages, without what they depend on."""
        return (*PACKAGES.split(), *(MACHINE_PACKAGES if self.is_machine else ()))


class BuildError(Exception):
    """An emulated device cannot be made or started here; the message says why and what to do."""


def fingerprint(plan: RootPlan, *others: str) -> str:
    """Hash of all that decides what is built, `others` included, so that a stale image is made anew."""
    digest = hashlib.sha256(json.dumps([asdict(plan), plan.packages, WHEELS, SUITE], sort_keys=True).encode())
    for path in (Path(__file__), REPOSITORY / "constraints.txt"):
        digest.update(path.read_bytes())
    for text in others:
        digest.update(text.encode())
    return digest.hexdigest()


def build_root(plan: RootPlan, root: Path, public_key: str) -> None:
    """Make the root in a folder, replacing what is there.

    Args:
        plan: What goes in.
        root: Folder to make; needs about 450 MB, with a kernel 1 GB while it is made.
        public_key: Line for authorized_keys of root and of the user pi.

    Raises:
        BuildError: Not root, a tool is missing, or a package cannot be had.
    """
    if os.geteuid() != 0:
        raise BuildError("the files of an arm64 root belong to several users: making it needs root")
    _unpack_packages(plan, root)
    _write_accounts(root)
    _write_settings(plan, root)
    _write_ssh(plan, root, public_key)
    _enable_services(plan, root)
    _install_wheels(root)


def run(*words: str | Path, log: Path | None = None) -> None:
    """Run a program; its output goes to a log, or is thrown away.

    Raises:
        BuildError: It is missing or failed; the message has its last words.
    """
    try:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(f"{words[0]} is missing: apt-get install the packages of docs/emulated-device.md") from error
    if log is not None:
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        raise BuildError(f"{' '.join(map(str, words[:4]))} ...: exit {done.returncode}: {done.stderr.strip()[-800:]}")


def _unpack_packages(plan: RootPlan, root: Path) -> None:
    archive = root.with_name(root.name + ".tar")
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--arch=arm64", "--variant=extract",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--aptopt=Apt::Install-Recommends false",
        f"--include={','.join(plan.packages)}", SUITE, archive, _find_mirror(),
    )  # fmt: skip
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    run("tar", "-C", root, "-xf", archive)
    archive.unlink()


def _find_mirror() -> str:
    """The Debian mirror that this machine itself uses."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        uri, _, rest = line.partition(" ")
        if rest == f"{SUITE} Debian":
            return uri
    return "http://deb.debian.org/debian"


def _write_accounts(root: Path) -> None:
    etc = root / "etc"
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", etc / name)
    (etc / "gshadow").unlink(missing_ok=True)
    passwd = (etc / "passwd").read_text("utf-8").replace("root:*:", "root:x:", 1)
    passwd += "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\npi:x:1000:1000::/home/pi:/bin/bash\n"
    (etc / "passwd").write_text(passwd, encoding="utf-8")
    with (etc / "group").open("a", encoding="utf-8") as file:
        file.write("pi:x:1000:\n")
    run("systemd-sysusers", f"--root={root}")
    names = [line.split(":")[0] for line in (etc / "passwd").read_text("utf-8").splitlines()]
    (etc / "shadow").write_text("".join(f"{name}:*:20000:0:99999:7:::\n" for name in names), encoding="utf-8")
    (etc / "shadow").chmod(0o640)


def _write_settings(plan: RootPlan, root: Path) -> None:
    etc = root / "etc"
    switch = root / "usr/share/libc-bin/nsswitch.conf"
    if not (etc / "nsswitch.conf").exists():
        shutil.copy(switch, etc / "nsswitch.conf")
    (etc / "hostname").write_text(plan.hostname + "\n", encoding="utf-8")
    (etc / "hosts").write_text(f"127.0.0.1 localhost {plan.hostname}\n", encoding="utf-8")
    (etc / "machine-id").write_text("", encoding="utf-8")
    (etc / "fstab").write_text("/dev/vda / ext4 defaults,noatime 0 1\n" if plan.is_machine else "", encoding="utf-8")
    if plan.is_machine:
        network = etc / "systemd/network"
        network.mkdir(parents=True, exist_ok=True)
        # The addresses of qemu's user network.
        text = "[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
        (network / "10.network").write_text(text, encoding="utf-8")
        (etc / "modules-load.d/vivid.conf").write_text("vivid\n", encoding="utf-8")
        # One webcam at /dev/video0, nothing else.
        options = "options vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0\n"
        (etc / "modprobe.d").mkdir(exist_ok=True)
        (etc / "modprobe.d/vivid.conf").write_text(options, encoding="utf-8")
        return
    for kind in ("system", "user"):  # every program must run on the pinned processor
        folder = etc / f"systemd/{kind}.conf.d"
        folder.mkdir(parents=True, exist_ok=True)
        text = f"[Manager]\nDefaultEnvironment=QEMU_CPU={plan.cpu}\n"
        (folder / "processor.conf").write_text(text, encoding="utf-8")


def _write_ssh(plan: RootPlan, root: Path, public_key: str) -> None:
    ssh = root / "etc/ssh"
    key = ssh / "ssh_host_ed25519_key"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", plan.hostname, "-f", key)
    lines = [
        "HostKey /etc/ssh/ssh_host_ed25519_key", "UsePAM no", "PasswordAuthentication no",
        "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password",
        "Subsystem sftp /usr/lib/openssh/sftp-server", "UseDNS no", "MaxStartups 30",
    ]  # fmt: skip
    if not plan.is_machine:
        lines.append(f"SetEnv QEMU_CPU={plan.cpu}")
    (ssh / "sshd_config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for home, owner in (("root", 0), ("home/pi", 1000)):
        folder = root / home / ".ssh"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "authorized_keys").write_text(public_key, encoding="utf-8")
        for path in (folder.parent, folder, folder / "authorized_keys"):
            os.chown(path, owner, owner)
            path.chmod(0o600 if path.is_file() else 0o700)


def _enable_services(plan: RootPlan, root: Path) -> None:
    (root / "etc/init.d/ssh").unlink(missing_ok=True)
    services = ["ssh.service", *(["systemd-networkd.service"] if plan.is_machine else [])]
    run("systemctl", f"--root={root}", "enable", *services)
    system = root / "etc/systemd/system"
    for unit in (_MASKED if plan.is_machine else f"{_MASKED} {_MASKED_IN_NAMESPACES}").split():
        link = system / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    if not plan.is_machine:  # what qemu-user cannot mount for it, and without which it works
        folder = system / "systemd-tmpfiles-setup.service.d"
        folder.mkdir()
        (folder / "credentials.conf").write_text("[Service]\nLoadCredential=\n", encoding="utf-8")


def _install_wheels(root: Path) -> None:
    target = root / WHEELS_DIR.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "2014", "_2_17")]
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--target", target, *platforms,
        "--python-version", PYTHON_VERSION, "--implementation", "cp", "--only-binary=:all:",
        "--constraint", REPOSITORY / "constraints.txt", *WHEELS.split(),
    )  # fmt: skip
    for path in target.rglob("tests"):  # a third of numpy
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    # Compiled here, when this is the board's version of Python: there it takes a minute.
    if f"{sys.version_info.major}{sys.version_info.minor}" == PYTHON_VERSION:
        library = root / "usr/lib/python3.11"
        run(sys.executable, "-m", "compileall", "-q", "-s", root, "-p", "/", library)
