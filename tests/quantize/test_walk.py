"""Pictures on their way through a network: the same as running it, within the memory and the disk it is given."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.core.errors import OutputError
from edgekit.core.graph import Graph
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.walk import Walk
from graphs import GraphBuilder

NUM_PICTURES, BATCH_SIZE = 7, 3


class Camera:
    """Pictures, and how often they were read."""

    def __init__(self) -> None:
        self.num_reads = 0
        self.x = torch.randn(NUM_PICTURES, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def __call__(self) -> Iterator[Tensor]:
        self.num_reads += 1
        return iter(self.x.split(BATCH_SIZE))


def residual_graph() -> Graph:
    """Between some nodes two activations live."""
    build = GraphBuilder((1, 3, 8, 8))
    stem = build.relu(build.conv("input", 6, 3, stride=2, pads=1))
    left = build.conv(build.relu(build.conv(stem, 24, 1)), 6, 1)
    total = build.binary("Add", left, stem)
    build.gemm(build.flatten(build.global_pool(total)), 5)
    return build.build()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def assert_runs_directly(walk: Walk, camera: Camera, index: int) -> None:
    network = walk.network
    seen = list(walk.before(index))
    assert len(seen) == -(-NUM_PICTURES // BATCH_SIZE)
    for values, batch in zip(seen, camera(), strict=True):
        expected = network.run(network.begin(batch), 0, index)
        assert set(values) == set(expected) == set(network.live_before(index))
        for name, value in values.items():
            assert torch.allclose(value, expected[name], atol=1e-6), name


@pytest.mark.parametrize("max_bytes", [0, 5000, 2**30])
def test_walk_gives_what_direct_runs_give(max_bytes: int) -> None:
    camera = Camera()
    network = GraphNetwork(residual_graph())
    with closing(Walk(network, camera, max_bytes)) as walk, torch.inference_mode():
        for index in (0, 0, 2, 3, 5, 5, 6, len(network.graph.nodes)):
            assert_runs_directly(walk, camera, index)


def test_pictures_are_read_once_where_activations_may_be_kept() -> None:
    camera = Camera()
    with closing(Walk(GraphNetwork(residual_graph()), camera)) as walk:
        for index in range(6):
            list(walk.before(index))
    assert camera.num_reads == 1


@pytest.mark.parametrize("max_bytes", [0, 1000, 3000, 6000, 2**30])
def test_no_more_than_the_limit_lies_on_disk(scratch: Path, max_bytes: int) -> None:
    network = GraphNetwork(residual_graph())
    with closing(Walk(network, Camera(), max_bytes)) as walk:
        for index in range(len(network.graph.nodes)):
            for _ in walk.before(index):
                pass
            kept = sum(np.load(path).nbytes for path in scratch.rglob("*.npy"))
            assert kept <= max_bytes
            if max_bytes == 2**30:
                assert kept > 0


def test_change_behind_the_walk_is_seen() -> None:
    camera = Camera()
    network = GraphNetwork(residual_graph())
    with closing(Walk(network, camera)) as walk, torch.inference_mode():
        list(walk.before(2))
        network.weight("conv_2").mul_(2.0)
        assert_runs_directly(walk, camera, 4)


def test_files_are_removed_by_close(scratch: Path) -> None:
    walk = Walk(GraphNetwork(residual_graph()), Camera())
    list(walk.before(2))
    assert list(scratch.rglob("*.npy"))
    walk.close()
    assert list(scratch.iterdir()) == []


def test_walk_that_was_broken_off_starts_again() -> None:
    camera = Camera()
    with closing(Walk(GraphNetwork(residual_graph()), camera)) as walk, torch.inference_mode():
        next(iter(walk.before(1)))
        assert_runs_directly(walk, camera, 1)
        next(iter(walk.before(3)))
        assert_runs_directly(walk, camera, 3)


def test_full_disk_is_an_output_error(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", fill_up)
    with closing(Walk(GraphNetwork(residual_graph()), Camera())) as walk:
        with pytest.raises(OutputError, match="No space left on device") as caught:
            list(walk.before(2))
        assert str(scratch) in caught.value.message
        assert caught.value.hint
        assert "TMPDIR" in caught.value.hint
    assert list(scratch.iterdir()) == []
