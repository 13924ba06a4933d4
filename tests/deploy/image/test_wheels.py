"""Wheels that are carried along, for a board without network."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from card_images import CardSpec, make_card, read_root, root_of, run_tool
from edgekit.core.errors import UsageError
from edgekit.core.progress import Silent
from edgekit.deploy.image.making import ImageRequest, make_image
from edgekit.deploy.ssh.own_wheel import read_own_wheel
from edgekit.deploy.wheelhouse import normalize


@pytest.fixture
def wheels_dir(tmp_path: Path) -> Path:
    """A name for each requirement; what is in them is pip's business."""
    own = read_own_wheel()
    folder = tmp_path / "wheels"
    folder.mkdir()
    for line in (*own.requires, *own.agent_requires):
        name = normalize(line).replace("-", "_")
        (folder / f"{name}-9.0-py3-none-any.whl").write_bytes(name.encode())
    (folder / "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl").write_bytes(b"for this one")
    (folder / "ai_edge_litert-2.3.0-cp313-cp313-manylinux_2_27_aarch64.whl").write_bytes(b"for another Python")
    (folder / "edgekit-0.0.1-py3-none-any.whl").write_bytes(b"an old one")
    return folder


def test_fitting_wheels_are_carried_and_no_index_is_asked(
    card: Path, bundle_path: Path, wheels_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.img"
    plan = make_image(ImageRequest(image_path=card, model_path=bundle_path, out=out, wheels_dir=wheels_dir), Silent())
    names = run_tool("debugfs", "-R", "ls /opt/edgekit/wheels", root_of(out)).stdout
    assert "ai_edge_litert-2.3.0-cp311" in names
    assert "cp313" not in names
    assert "edgekit-0.0.1" not in names
    assert read_root(out, "/opt/edgekit/carried") == "wheels\n"
    assert "network-online" not in read_root(out, "/etc/systemd/system/edgekit-setup.service")
    assert plan.runtime == "ai-edge-litert==2.3.0"
    assert not any("network" in note and "--wheels" in note for note in plan.notes)


def test_old_numpy_of_the_camera_packages_wants_its_wheel(bundle_path: Path, wheels_dir: Path, tmp_path: Path) -> None:
    packages = {**CardSpec().packages, "python3-numpy": "1:1.24.2-1+deb12u1"}
    old = make_card(tmp_path / "old", CardSpec(packages=packages))
    request = ImageRequest(image_path=old, model_path=bundle_path, out=tmp_path / "out.img", wheels_dir=wheels_dir)
    with pytest.raises(UsageError, match=r"numpy<2 .*1\.24\.2"):
        make_image(request, Silent())
    (wheels_dir / "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.whl").write_bytes(b"old enough")
    make_image(request, Silent())


def test_pip_has_to_be_carried_when_the_image_has_none(bundle_path: Path, wheels_dir: Path, tmp_path: Path) -> None:
    packages = {name: version for name, version in CardSpec().packages.items() if not name.endswith("-venv")}
    bare = make_card(tmp_path / "bare", CardSpec(packages=packages))
    request = ImageRequest(image_path=bare, model_path=bundle_path, out=tmp_path / "out.img", wheels_dir=wheels_dir)
    with pytest.raises(UsageError, match="pip"):
        make_image(request, Silent())
    (wheels_dir / "pip-25.0-py3-none-any.whl").write_bytes(b"pip")
    make_image(request, Silent())
    assert msgspec.structs.asdict(request)["wheels_dir"] == wheels_dir
