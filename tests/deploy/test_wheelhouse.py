"""One rule for the runtime, whether a board is flashed or a card is made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import plain_manifest
from edgekit.bundle.manifest import RuntimeNeed
from edgekit.core.board import list_boards, load_board
from edgekit.deploy.wheelhouse import Target, Wheel, choose_runtime, fitting

PI = load_board("raspberry_pi_4b")
TARGET = Target(architecture="aarch64", python=(3, 11), glibc=(2, 36))
NEEDS = plain_manifest().compatible.runtimes


def wheel(name: str, version: str, tag: str = "cp311", platform: str = "manylinux_2_27_aarch64") -> Wheel:
    return Wheel(
        path=Path(f"{name}.whl"),
        size_bytes=1,
        distribution=name,
        version=version,
        pythons=(tag,),
        abis=(tag,),
        platforms=(platform,),
    )


def test_first_of_the_bundles_runtimes_that_the_board_file_knows_is_taken() -> None:
    first, second = (RuntimeNeed(name="litert", at_least="99"), RuntimeNeed(name="onnxruntime", at_least="1.20"))

    assert choose_runtime(NEEDS, PI, TARGET, None) == "ai-edge-litert==2.3.0"
    assert choose_runtime((first, second), PI, TARGET, None) == "onnxruntime==1.32.0"
    assert choose_runtime((first,), PI, TARGET, None) is None


def test_runtime_is_a_carried_one_when_wheels_are_carried() -> None:
    carried = (wheel("ai-edge-litert", "2.1.0"), wheel("ai-edge-litert", "2.4.0", "cp313"))

    assert choose_runtime(NEEDS, PI, TARGET, fitting(carried, TARGET)) == "ai-edge-litert==2.1.0"
    assert choose_runtime(NEEDS, PI, TARGET, ()) is None


def test_machine_without_systems_in_its_file_asks_for_what_is_needed() -> None:
    need = RuntimeNeed(name="onnxruntime", at_least="1.20")

    assert choose_runtime((need,), load_board("host_cpu"), TARGET, None) == "onnxruntime>=1.20"


@pytest.mark.parametrize("name", list_boards())
def test_over_ssh_and_on_a_card_the_same_runtime_is_chosen(name: str) -> None:
    from edgekit.deploy.image import planning as image
    from edgekit.deploy.ssh import planning as ssh

    assert image.choose_runtime is ssh.choose_runtime is choose_runtime
    board = load_board(name)
    for system in board.facts.systems:
        python = tuple(map(int, (system.needs_python or system.python).split(".")))
        target = Target(architecture="aarch64", python=(python[0], python[1]), glibc=None)
        chosen = choose_runtime(NEEDS, board, target, None)
        assert chosen is None or chosen.split("==")[0] in system.runtimes
