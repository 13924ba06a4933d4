"""A model serves when everything about it is right, and not before."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bundles import CARD, with_manifest, write_run
from edgekit.agent.model import ModelSettings, load_model, pin, resident_mib
from edgekit.bundle.compatibility import DeviceFacts
from edgekit.bundle.manifest import LABELS, LOGITS, MODEL, Manifest
from edgekit.bundle.reading import open_bundle, write_bundle
from edgekit.core.errors import BarNotMetError, IntegrityError, UsageError
from edgekit.deploy.bundling import BundleRequest, bundle_run, make_bundle
from edgekit.encode.packing import pack
from edgekit.export.tflite import write_tflite
from graphs import GraphBuilder

SETTINGS = ModelSettings()
HOST = DeviceFacts(board="host_cpu")
HEAVY = ("torch", "onnx", "onnxscript", "tensorflow", "jax", "sklearn", "scipy", "matplotlib", "safetensors", "jinja2")


def contents_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(
    source: Path,
    target: Path,
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    **files: bytes,
) -> Path:
    """A bundle with other files or another manifest, in which every hash is right again."""
    contents = contents_of(source)
    contents.update({{"model": MODEL, "labels": LABELS, "logits": LOGITS}[key]: value for key, value in files.items()})
    write_bundle(target, with_manifest(contents, change))
    return target


def with_model(content: bytes) -> Callable[[Manifest], Manifest]:
    """Make the manifest speak of another model file."""

    def change(manifest: Manifest) -> Manifest:
        digest = hashlib.sha256(content).hexdigest()
        return msgspec.structs.replace(
            manifest, model=msgspec.structs.replace(manifest.model, size_bytes=len(content), sha256=digest)
        )

    return change


def float_model(folder: Path, *, bias: float = 0.0, card: msgspec.Struct = CARD) -> bytes:
    """Another network with the same card; `bias` is added to every answer."""
    build = GraphBuilder((1, 3, 8, 8), seed=8, name="other")
    logits = build.gemm(build.flatten(build.global_pool(build.conv("input", 4))), len(CARD.labels))
    offset = build.constant("offset", np.full(len(CARD.labels), bias, np.float32))
    graph = build.build(build.node("Add", [logits, offset], [(1, len(CARD.labels))])[0])
    write_tflite(graph, folder / "other.tflite", card)  # type: ignore[arg-type]
    return (folder / "other.tflite").read_bytes()


def test_bundle_is_served_after_its_golden_pictures_were_answered(tiny_bundle: Path, tmp_path: Path) -> None:
    beats: list[int] = []
    model = load_model(tiny_bundle, SETTINGS, tmp_path, facts=HOST, beat=lambda: beats.append(1))

    status = model.status
    assert (status.name, status.scheme, status.release) == ("tiny", "static_wi8_ai8", 4)
    assert (status.num_classes, status.num_golden, status.num_threads) == (7, 8, 1)
    assert status.runtime.startswith("litert ")
    assert status.load_ms > 0
    assert status.first_inference_ms > 0
    assert status.resident_mib >= 0
    assert status.packed_bytes == len(contents_of(tiny_bundle)[MODEL])
    assert len(beats) > status.num_golden
    picture = np.zeros((20, 30, 3), np.uint8)
    assert model.classifier.classify(picture).label in CARD.labels
    assert model.baseline is None
    assert model.budgets.p90_ms is None
    assert model.digest == open_bundle(tiny_bundle).digest


def test_folder_form_is_served_as_well(tiny_bundle: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "folder", contents_of(tiny_bundle))

    assert load_model(tmp_path / "folder", SETTINGS, tmp_path / "work", facts=HOST).status.release == 4


def test_unpacked_model_is_used_again(tiny_bundle: Path, tmp_path: Path) -> None:
    load_model(tiny_bundle, SETTINGS, tmp_path, facts=HOST)
    (file,) = (tmp_path / "models").iterdir()
    before = file.stat().st_ino

    load_model(tiny_bundle, SETTINGS, tmp_path, facts=HOST)
    assert [one.stat().st_ino for one in (tmp_path / "models").iterdir()] == [before]


def test_run_folder_is_bundled_by_the_caller(tiny_run: Path, tmp_path: Path) -> None:
    model = load_model(tiny_run, SETTINGS, tmp_path, make_bundle=bundle_run, facts=HOST)
    assert model.status.release is None
    (bundle,) = tmp_path.glob("*.ekb")
    made = bundle.stat().st_ino

    load_model(tiny_run, SETTINGS, tmp_path, make_bundle=bundle_run, facts=HOST)
    assert bundle.stat().st_ino == made
    with pytest.raises(UsageError, match=r"holds no manifest\.json"):
        load_model(tiny_run, SETTINGS, tmp_path)


def test_run_that_was_made_again_is_bundled_again(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run")
    first = load_model(run_dir, SETTINGS, tmp_path, make_bundle=bundle_run, facts=HOST)
    write_run(run_dir, seed=11)

    again = load_model(run_dir, SETTINGS, tmp_path, make_bundle=bundle_run, facts=HOST)
    assert again.status.sha256 != first.status.sha256


def test_wrong_answer_refuses_to_serve(tiny_bundle: Path, tmp_path: Path) -> None:
    logits = open_bundle(tiny_bundle).golden.logits.copy()
    rotated = np.roll(logits, 1, axis=1)
    top1 = tuple(int(index) for index in rotated.argmax(axis=1))
    wrong = rewritten(
        tiny_bundle,
        tmp_path / "wrong.ekb",
        lambda manifest: msgspec.structs.replace(manifest, golden=msgspec.structs.replace(manifest.golden, top1=top1)),
        logits=rotated.astype("<f4").tobytes(),
    )
    expected, got = CARD.labels[top1[0]], CARD.labels[int(logits[0].argmax())]

    with pytest.raises(BarNotMetError, match=rf"wrong\.ekb: golden picture 1 of 8: expected '{expected}'.*'{got}'"):
        load_model(wrong, SETTINGS, tmp_path, facts=HOST)


def test_other_model_under_the_same_card_refuses_to_serve(tiny_bundle: Path, tmp_path: Path) -> None:
    other = float_model(tmp_path)
    swapped = rewritten(tiny_bundle, tmp_path / "x.ekb", with_model(other), model=pack(other).content)

    with pytest.raises(BarNotMetError, match="golden picture 1 of 8"):
        load_model(swapped, SETTINGS, tmp_path, facts=HOST)


@pytest.mark.parametrize("bias", [float("nan"), float("inf")])
def test_model_that_answers_nan_refuses_to_serve(tiny_bundle: Path, tmp_path: Path, bias: float) -> None:
    broken = float_model(tmp_path, bias=bias)
    bundle = rewritten(tiny_bundle, tmp_path / "nan.ekb", with_model(broken), model=pack(broken).content)

    with pytest.raises(BarNotMetError, match="got NaN or infinity"):
        load_model(bundle, SETTINGS, tmp_path, facts=HOST)


def test_manifest_that_speaks_of_another_model_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    lies = rewritten(tiny_bundle, tmp_path / "lies.ekb", with_model(float_model(tmp_path)))

    with pytest.raises(IntegrityError, match=r"model\.ekz holds a file of|wanted"):
        load_model(lies, SETTINGS, tmp_path, facts=HOST)
    assert list((tmp_path / "models").iterdir()) == []


def test_model_that_is_no_ekz_file_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    broken = rewritten(tiny_bundle, tmp_path / "broken.ekb", model=b"PK" * 100)

    with pytest.raises(IntegrityError, match=r"no \.ekz file"):
        load_model(broken, SETTINGS, tmp_path, facts=HOST)


def test_model_that_no_runtime_takes_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    junk = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 4
    broken = rewritten(tiny_bundle, tmp_path / "junk.ekb", with_model(junk), model=pack(junk).content)

    with pytest.raises(IntegrityError, match="cannot be loaded"):
        load_model(broken, SETTINGS, tmp_path, facts=HOST)


def test_labels_of_another_model_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    labels = "".join(f"{label}\n" for label in reversed(CARD.labels)).encode()

    with pytest.raises(IntegrityError, match="the bundle says labels"):
        load_model(rewritten(tiny_bundle, tmp_path / "x.ekb", labels=labels), SETTINGS, tmp_path, facts=HOST)


def test_bundle_for_another_board_is_refused_unless_told_otherwise(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nano = DeviceFacts(board="jetson_nano", free_ram_mib=1.0)

    with pytest.raises(UsageError, match=r"it is for host_cpu; this is jetson_nano; it needs .* free are 1 MiB"):
        load_model(tiny_bundle, SETTINGS, tmp_path, facts=nano)
    load_model(tiny_bundle, ModelSettings(any_board=True), tmp_path, facts=nano)
    assert "this is jetson_nano" in caplog.text


def test_this_machine_takes_a_bundle_for_the_host(tiny_bundle: Path, tmp_path: Path) -> None:
    assert load_model(tiny_bundle, SETTINGS, tmp_path).status.num_golden == 8


def test_affinity_holds_for_the_caller_and_its_threads(repository: Path) -> None:
    program = (
        "import os, threading\nfrom edgekit.agent.model import pin\n"
        "first = min(os.sched_getaffinity(0)); pin((first,)); seen = []\n"
        "look = lambda: seen.append(os.sched_getaffinity(0))\n"
        "thread = threading.Thread(target=look); thread.start(); thread.join()\n"
        "assert seen == [{first}] == [os.sched_getaffinity(0)]\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(repository)}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True, timeout=120)


def test_affinity_to_a_processor_that_is_not_there_is_refused() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(UsageError, match="names processors \\[4095\\]"):
        pin((min(before), 4095))
    pin(())
    assert os.sched_getaffinity(0) == before


def test_resident_memory_is_told(tmp_path: Path) -> None:
    assert 10 < resident_mib() < 10_000
    (tmp_path / "statm").write_text("nonsense")
    assert resident_mib(tmp_path / "statm") == 0.0
    assert resident_mib(tmp_path / "absent") == 0.0


def test_loading_imports_nothing_of_the_training_side(tiny_bundle: Path, tmp_path: Path, repository: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom edgekit.agent.model import ModelSettings, load_model\n"
        f"load_model(Path({str(tiny_bundle)!r}), ModelSettings(), Path({str(tmp_path)!r}))\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])\n"
        "print(*[name for name in ('edgekit.deploy', 'edgekit.data', 'edgekit.export') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == []


def test_two_releases_of_a_run_differ_in_the_manifest_alone(tiny_run: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    make_bundle(BundleRequest(run_dir=tiny_run, boards=("host_cpu",), release=5), tmp_path / "next.ekb")
    one, other = contents_of(tiny_bundle), contents_of(tmp_path / "next.ekb")

    assert [name for name in one if one[name] != other[name]] == ["manifest.json"]
