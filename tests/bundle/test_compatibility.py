"""Which boards a bundle belongs on."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import plain_manifest
from edgekit.bundle.compatibility import DeviceFacts, incompatibilities, version_key

FACTS = DeviceFacts(
    board="raspberry_pi_4b",
    architecture="aarch64",
    python=(3, 11),
    runtimes=(("litert", "2.3.0"),),
    free_ram_mib=700.0,
    free_disk_mib=5000.0,
)


def reasons(**changes: object) -> tuple[str, ...]:
    return incompatibilities(plain_manifest(), msgspec.structs.replace(FACTS, **changes))


def test_board_that_has_everything_fits() -> None:
    assert reasons() == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"board": "jetson_nano"}, "it is for host_cpu, raspberry_pi_4b; this is jetson_nano"),
        ({"architecture": "armv7l"}, "it is for aarch64, x86_64; this is armv7l"),
        ({"python": (3, 9)}, "it needs Python 3.10; here is 3.9"),
        ({"runtimes": ()}, "it needs litert 2.0 or onnxruntime 1.23; here is none"),
        (
            {"runtimes": (("litert", "1.4"), ("onnxruntime", "1.9.1"))},
            "it needs litert 2.0 or onnxruntime 1.23; here is litert 1.4, onnxruntime 1.9.1",
        ),
        ({"free_ram_mib": 64.0}, "it needs 100 MiB of memory; free are 64 MiB"),
        ({"free_disk_mib": 0.0}, "it needs 10 MiB of disk; free are 0 MiB"),
    ],
)
def test_what_is_wrong_is_said_with_both_sides(changes: dict[str, object], reason: str) -> None:
    assert reasons(**changes) == (reason,)


def test_every_reason_is_given_at_once() -> None:
    assert len(reasons(board="x", architecture="y", python=(2, 7), runtimes=(), free_ram_mib=0, free_disk_mib=0)) == 6


def test_what_cannot_be_told_refuses_nothing() -> None:
    assert incompatibilities(plain_manifest(), DeviceFacts(board="host_cpu")) == ()


def test_any_processor_fits_where_none_is_named() -> None:
    manifest = plain_manifest()
    anywhere = msgspec.structs.replace(manifest.compatible, architectures=())

    assert incompatibilities(msgspec.structs.replace(manifest, compatible=anywhere), FACTS) == ()


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.sampled_from(["", "rc1", "+cpu", ".post1", "-beta"]))
def test_versions_compare_by_their_numbers(numbers: list[int], suffix: str) -> None:
    version = ".".join(map(str, numbers))
    larger = ".".join(map(str, [*numbers[:-1], numbers[-1] + 1]))

    assert version_key(version) < version_key(larger)
    assert version_key(version + suffix) == version_key(version)
    assert version_key("unknown") == ()
