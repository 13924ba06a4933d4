"""A board behind a real OpenSSH server on loopback: a folder stands for its root, a few programs for what is missing.

What is real: sshd, its keys and its SFTP, every shell script that a flash runs, files, links, locks, processes. What
stands in: `systemctl` and `journalctl` (they start, stop and tell of the agent without systemd), `date` (when told),
and, unless a test wants the real one, `python3`, whose environments hold `board_program.py` as `edgekit`. The service's
user is the one who runs the tests.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

SSHD = "/usr/sbin/sshd"
TESTS = Path(__file__).resolve().parent
MODEL = "Raspberry Pi 4 Model B Rev 1.4"

_SSHD_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
SetEnv {environment}
"""

_SYSTEMCTL = """#!/bin/sh
# Starts the unit's program with nobody watching over it.
root={root}
unit=$root/etc/systemd/system/edgekit-agent.service
pid=$root/run/agent.pid
echo "systemctl $*" >>$root/calls.log
case " $* " in *.timer*) case $1 in start|restart|stop) exit 0 ;; esac ;; esac
alive() {{ [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }}
stop() {{ alive && kill "$(cat "$pid")"; while alive; do sleep 0.05; done; rm -f "$pid"; }}
start() {{
    [ -f $root/fail_to_start ] && return 0
    alive && return 0
    setsid $(sed -n 's/^ExecStart=//p' "$unit") >>$root/run/agent.log 2>&1 </dev/null &
    echo $! >"$pid"
}}
case $1 in
    show)
        if alive; then echo ActiveState=active; else echo ActiveState=inactive; fi
        if [ -f $root/run/enabled ]; then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi
        ;;
    is-enabled) [ -f "$root/run/enabled-$2" ] && echo enabled || echo disabled ;;
    disable) rm -f "$root/run/enabled-$4" ;;
    enable)
        case $3 in edgekit-agent.service) : >$root/run/enabled ;; *) : >"$root/run/enabled-$3" ;; esac
        ;;
    start) start ;;
    restart) stop; start ;;
    stop) stop ;;
esac
"""

_JOURNALCTL = """#!/bin/sh
lines=10 follow=
while [ $# -gt 0 ]; do
    case $1 in -n) shift; lines=$1 ;; --follow) follow=-f ;; esac
    shift
done
exec tail -n "$lines" $follow {root}/run/agent.log
"""

_DATE = """#!/bin/sh
if [ "$1" = -u ]; then echo "$3" >{root}/clock; exit 0; fi
if [ -f {root}/clock ]; then exec /bin/date -d "$(cat {root}/clock)" "$@"; fi
exec /bin/date "$@"
"""

_PYTHON = """#!/bin/sh
# Says that it is {version}, and makes environments whose pip installs nothing.
case $1 in
    -I) echo "{path} {version} venv -"; exit ;;
    -m) for folder in "$@"; do :; done; mkdir -p "$folder/bin" ;;
esac
cat >"$folder/bin/python" <<'END'
#!/bin/sh
echo "pip $*" >>{root}/calls.log
[ -f {root}/pip_fails ] && {{ echo "ERROR: No matching distribution found" >&2; exit 1; }}
exit 0
END
cat >"$folder/bin/edgekit" <<'END'
#!/bin/sh
exec {python} {program} "$@"
END
chmod 755 "$folder/bin/python" "$folder/bin/edgekit"
"""


class SshBoard:
    """One board.

    Args:
        folder: Everything of it lies here; `root` in it stands for the board's root.
        python: Version of its Python, a stand-in; "" for the machine's own.
        passwords: Whether its server takes passwords.
        packages: Folder whose packages every Python there sees.
    """

    def __init__(
        self, folder: Path, *, python: str = "3.11", passwords: bool = False, packages: Path = TESTS.parent
    ) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.state = self.root / "var/lib/edgekit"
        self.key = folder / "key"
        self.port = free_port()
        self.page_port = free_port()
        self._passwords = passwords
        self._packages = packages
        self._server: subprocess.Popen[bytes] | None = None
        self.programs = folder / "bin"
        (self.root / "run/systemd/system").mkdir(parents=True)
        self.root.joinpath("model").write_text(MODEL + "\0", encoding="utf-8")
        self._link_programs(with_python=not python)
        for name, text in (("systemctl", _SYSTEMCTL), ("journalctl", _JOURNALCTL), ("date", _DATE)):
            self.install_program(name, text.format(root=self.root))
        if python:
            self.install_python(python)
        keygen(self.key)
        keygen(folder / "host_key")
        shutil.copy(f"{self.key}.pub", folder / "authorized_keys")

    @property
    def address(self) -> str:
        """As it is written on the command line."""
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def user_and_prefix(self) -> str:
        """For `EDGEKIT_BOARD_PREFIX`."""
        return f"{getpass.getuser()}:{self.root}"

    @property
    def calls(self) -> list[str]:
        """What stand-in programs were called with."""
        path = self.root / "calls.log"
        return path.read_text("utf-8").splitlines() if path.is_file() else []

    def install_program(self, name: str, text: str) -> None:
        """Put a script in the place of a program."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def install_python(self, version: str) -> None:
        """Put a stand-in for Python there."""
        for name in self.programs.glob("python3*"):
            name.unlink()
        path = self.programs / "python3"
        self.install_program(
            "python3",
            _PYTHON.format(
                version=version, path=path, root=self.root, python=sys.executable, program=TESTS / "board_program.py"
            ),
        )

    def start(self) -> None:
        """Start its SSH server, and wait until it answers."""
        words = {
            "PATH": f"{self.programs}",
            "EDGEKIT_MODEL_FILE": str(self.root / "model"),
            "PYTHONPATH": str(self._packages),
            "HOME": str(self.folder),  # a shell that sshd starts may read files there, and change PATH
        }
        environment = " ".join(f"{name}={value}" for name, value in words.items())
        config = self.folder / "sshd_config"
        config.write_text(
            _SSHD_CONFIG.format(
                port=self.port,
                folder=self.folder,
                environment=environment,
                passwords="yes" if self._passwords else "no",
            ),
            encoding="utf-8",
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "sshd.log").open("ab") as log:
            self._server = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(lambda: answers(self.port), "sshd")

    def stop(self) -> None:
        """Stop its server, its connections and its agent."""
        self.cut()
        if self._server is not None:
            self._server.terminate()
            self._server.wait(20)
            self._server = None
        pid = self.root / "run/agent.pid"
        if pid.is_file():
            end_process(int(pid.read_text("ascii")))

    def cut(self) -> None:
        """Cut every connection, as a pulled cable would: the processes of each end at once."""
        if self._server is not None:
            for pid in children(self._server.pid):
                end_process(pid, signal.SIGKILL)

    def new_host_key(self) -> None:
        """Become another machine, as after a new system. Takes effect with the next start."""
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        keygen(self.folder / "host_key")

    def tree(self) -> dict[str, str]:
        """Every file and link under its root, with its content or target, but logs."""
        return {
            str(path.relative_to(self.root)): str(path.readlink()) if path.is_symlink() else hash_file(path)
            for path in sorted(self.root.rglob("*"))
            if (path.is_symlink() or path.is_file()) and path.suffix != ".log"
        }

    def _link_programs(self, *, with_python: bool) -> None:
        """Everything that this machine has, apart from Python where a stand-in or none is wanted."""
        self.programs.mkdir()
        for folder in ("/usr/bin", "/bin"):
            for path in Path(folder).iterdir():
                is_left_out = not with_python and path.name.startswith(("python", "pip"))
                target = self.programs / path.name
                if not is_left_out and not target.is_symlink():
                    target.symlink_to(path)


def keygen(path: Path) -> None:
    """Make a key pair."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def free_port() -> int:
    """A port that nobody has now."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    """Whether an SSH server greets there."""
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def wait_for(condition: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
    """Wait until something is so."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"no {what} within {limit_s:g} s")
        time.sleep(0.02)


def children(pid: int) -> Sequence[int]:
    """Processes below another one, the deepest last."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []
    own = [int(word) for word in words]
    return [found for child in own for found in (child, *children(child))]


def end_process(pid: int, number: int = signal.SIGTERM) -> None:
    """End a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
