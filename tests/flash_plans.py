"""Boards as they tell of themselves, wishes, and the plans that come of both."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from bundles import plain_manifest
from edgekit.core.board import list_boards, load_board
from edgekit.deploy.ssh.configuration import config_text
from edgekit.deploy.ssh.facts import BoardFound, PythonFacts
from edgekit.deploy.ssh.layout import unit_text
from edgekit.deploy.ssh.plan import MakeEnvironment, Payload, Plan
from edgekit.deploy.ssh.planning import Wishes, find_board, make_plan

NOW = 1_800_000_000
BOARDS = tuple(load_board(name) for name in list_boards())
PI = "Raspberry Pi 4 Model B Rev 1.4"


def python(version: str, **changes: Any) -> PythonFacts:
    major, minor = map(int, version.split("."))
    facts = PythonFacts(path=f"/usr/bin/python{version}", version=(major, minor), has_venv=True, numpy=None)
    return msgspec.structs.replace(facts, **changes)


def found(**changes: Any) -> BoardFound:
    """A Raspberry Pi 4 with a fresh Raspberry Pi OS 12."""
    bare = BoardFound(
        privilege="free",
        system="Linux",
        architecture="aarch64",
        hostname="kitchen",
        clock_unix_s=NOW,
        os="Debian GNU/Linux 12 (bookworm)",
        model=PI,
        memory_mib=1900.0,
        free_memory_mib=1500.0,
        free_opt_mib=20_000.0,
        free_state_mib=20_000.0,
        glibc=(2, 36),
        libraries=("libstdc++.so.6",),
        has_systemd=True,
        pythons=(python("3.11"),),
    )
    return msgspec.structs.replace(bare, **changes)


def wishes(*boards: str, **changes: Any) -> Wishes:
    manifest = plain_manifest()
    names = boards or ("raspberry_pi_4b",)
    compatible = msgspec.structs.replace(manifest.compatible, boards=names, architectures=("aarch64",))
    payload = Payload(
        path=Path("pets.ekb"),
        digest="ab" * 32,
        size_bytes=1000,
        sha256="cd" * 32,
        manifest=msgspec.structs.replace(manifest, compatible=compatible),
    )
    plain = Wishes(payload=payload, wheel_digest="ef" * 32, requires=("numpy>=1.26", "psutil>=5.9"), now_unix_s=NOW)
    return msgspec.structs.replace(plain, **changes)


def plan(board: BoardFound, wanted: Wishes | None = None) -> Plan:
    return make_plan(board, find_board(board, BOARDS), wanted or wishes())


def kinds(made: Plan) -> list[str]:
    return [str(step.__struct_config__.tag) for step in made.steps]


def environment(made: Plan) -> MakeEnvironment:
    return next(step for step in made.steps if isinstance(step, MakeEnvironment))


def done(wanted: Wishes | None = None) -> BoardFound:
    """The board after a flash."""
    wanted = wanted or wishes()
    made = plan(found(), wanted)
    return found(
        has_user=True,
        environment=environment(made).name,
        edgekit="0.1.0",
        digest=wanted.payload.digest,
        unit_sha256=hashlib.sha256(unit_text(wanted.layout).encode()).hexdigest(),
        config=config_text(wanted.settings, load_board("raspberry_pi_4b"), wanted.layout),
        is_enabled=True,
        active="active",
    )
