"""Bundles on disk: whatever is wrong with one is an IntegrityError, at once, in little memory."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import LABEL_NAMES, plain_contents, plain_manifest, with_manifest
from edgekit.bundle.archive import encode_archive
from edgekit.bundle.check import NAMES
from edgekit.bundle.manifest import GOLDEN, LABELS, LOGITS, MANIFEST, MODEL
from edgekit.bundle.reading import is_bundle, model_stream, open_bundle, read_manifest, write_bundle
from edgekit.core.errors import DataError, IntegrityError, UsageError

FORMS = ("pets.ekb", "pets")


def open_bytes(folder: Path, content: bytes) -> None:
    """Open bytes as a bundle."""
    path = folder / "bytes.ekb"
    path.write_bytes(content)
    open_bundle(path)


@pytest.mark.parametrize("form", FORMS)
def test_bundle_comes_back_as_it_was_written(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    write_bundle(path, plain_contents())

    bundle = open_bundle(path)

    assert is_bundle(path)
    assert bundle.manifest == plain_manifest() == read_manifest(path)
    assert bundle.labels == bundle.golden.labels == LABEL_NAMES
    assert bundle.golden.pictures.ravel().tolist() == list(range(32))
    assert bundle.golden.pictures.shape == (2, 4, 4, 1)
    assert bundle.golden.logits.argmax(axis=1).tolist() == [1, 0]
    assert bundle.size_bytes == sum(map(len, plain_contents().values()))
    with model_stream(bundle) as (stream, size_bytes):
        assert stream.read(size_bytes) == plain_contents()[MODEL]


def test_both_forms_have_the_same_digest(tmp_path: Path) -> None:
    for form in FORMS:
        write_bundle(tmp_path / form, plain_contents())

    assert len({open_bundle(tmp_path / form).digest for form in FORMS}) == 1


def test_every_bit_flip_in_a_file_is_found(tmp_path: Path) -> None:
    whole = bytearray(encode_archive(plain_contents()))

    for position in range(len(whole)):
        whole[position] ^= 1 << position % 8
        with pytest.raises(IntegrityError):
            open_bytes(tmp_path, bytes(whole))
        whole[position] ^= 1 << position % 8


@given(st.data())
def test_mutated_bundles_raise_nothing_but_integrity_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(encode_archive(plain_contents()))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 60)))
        content[start:end] = data.draw(st.binary(max_size=60) | st.sampled_from([b"PK\x01\x02", b"\xff" * 8]))
    folder = tmp_path_factory.getbasetemp()

    try:
        open_bytes(folder, bytes(content))
    except IntegrityError:
        return
    assert bytes(content) == encode_archive(plain_contents())


@given(name=st.sampled_from(NAMES), cut=st.integers(0, 200), added=st.binary(max_size=50))
def test_mutated_folders_raise_nothing_but_integrity_errors(
    tmp_path_factory: pytest.TempPathFactory, name: str, cut: int, added: bytes
) -> None:
    contents = plain_contents()
    mutated = contents[name][:cut] + added + contents[name][cut + 1 :]
    folder = tmp_path_factory.mktemp("mutated")
    write_bundle(folder, contents)
    (folder / name).write_bytes(mutated)

    if mutated != contents[name] and name != MANIFEST:  # no hash stands beside the manifest of a folder
        with pytest.raises(IntegrityError, match="mutated"):
            open_bundle(folder)
        return
    with contextlib.suppress(IntegrityError):
        open_bundle(folder)


def test_huge_files_cost_no_memory(tmp_path: Path) -> None:
    for name in NAMES:
        folder = tmp_path / name.partition(".")[0]
        write_bundle(folder, plain_contents())
        with (folder / name).open("r+b") as stream:
            stream.truncate(1 << 40)
        tracemalloc.start()
        with pytest.raises(IntegrityError, match=rf"{name} has 1,099,511,627,776 bytes"):
            open_bundle(folder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * 1024 * 1024


def test_model_is_hashed_in_parts(tmp_path: Path) -> None:
    contents = {**plain_contents(), MODEL: bytes(32 * 1024 * 1024)}
    write_bundle(tmp_path / "large.ekb", with_manifest(contents, lambda manifest: manifest))

    tracemalloc.start()
    open_bundle(tmp_path / "large.ekb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_link_in_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "pets", plain_contents())
    path = tmp_path / "pets" / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)

    with pytest.raises(IntegrityError, match=f"{name} is a link"):
        open_bundle(tmp_path / "pets")


def test_pipe_and_folder_in_place_of_a_file_are_refused_at_once(tmp_path: Path) -> None:
    for name, make in ((LABELS, os.mkfifo), (MODEL, os.mkdir)):
        folder = tmp_path / name.partition(".")[0]
        write_bundle(folder, plain_contents())
        (folder / name).unlink()
        make(folder / name)
        with pytest.raises(IntegrityError, match=f"{name} is no regular file"):
            open_bundle(folder)


def test_pipe_in_place_of_a_bundle_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pets.ekb")

    with pytest.raises(IntegrityError, match="no regular file"):
        open_bundle(tmp_path / "pets.ekb")


def test_other_file_in_a_folder_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "pets", plain_contents())
    (tmp_path / "pets" / "sitecustomize.py").write_text("print('mine')")

    with pytest.raises(IntegrityError, match=r"sitecustomize\.py"):
        open_bundle(tmp_path / "pets")


def test_folder_may_be_reached_through_a_link(tmp_path: Path) -> None:
    write_bundle(tmp_path / "releases", plain_contents())
    (tmp_path / "current").symlink_to("releases")

    assert open_bundle(tmp_path / "current").manifest.release == 4


@pytest.mark.parametrize("name", [MODEL, LABELS, GOLDEN, LOGITS])
@pytest.mark.parametrize("form", FORMS)
def test_wrong_hash_names_file_and_path(tmp_path: Path, form: str, name: str) -> None:
    contents = plain_contents()
    contents[name] = contents[name][:-1] + b"!"
    write_bundle(tmp_path / form, contents)

    with pytest.raises(IntegrityError, match=rf"{form}: {name} has SHA-256"):
        open_bundle(tmp_path / form)


def test_nothing_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundle at"):
        open_bundle(tmp_path / "absent.ekb")


def test_path_that_cannot_be_opened_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match="cannot read bundle"):
        open_bundle(tmp_path / "file" / "x.ekb")


def test_answers_must_be_finite_and_agree_with_the_manifest(tmp_path: Path) -> None:
    for logits, message in (
        ([[0, np.nan, 1], [7, 2, 3]], "not finite"),
        ([[0, 5, 1], [7, 9, 3]], "says classes"),
    ):
        contents = {**plain_contents(), LOGITS: np.array(logits, "<f4").tobytes()}
        write_bundle(tmp_path / "pets.ekb", with_manifest(contents, lambda manifest: manifest))
        with pytest.raises(IntegrityError, match=message):
            open_bundle(tmp_path / "pets.ekb")


def test_exchanged_bundle_is_noticed_before_its_model_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pets.ekb"
    write_bundle(path, plain_contents())
    bundle = open_bundle(path)
    write_bundle(path, with_manifest({**plain_contents(), MODEL: b"longer " * 10}, lambda manifest: manifest))

    with pytest.raises(IntegrityError, match=r"model\.ekz has 70 bytes"), model_stream(bundle):
        pytest.fail("opened")


def test_labels_that_are_no_names_are_refused(tmp_path: Path) -> None:
    for labels, message in (
        (b"ant\nbee\n", "names 2 classes"),
        (b"ant\n\ncat\n", "no name"),
        (b"ant\nb\x1b[31m\ncat\n", "no name"),
        (b"ant\n\xff\ncat\n", "no UTF-8"),
    ):
        contents = with_manifest({**plain_contents(), LABELS: labels}, lambda manifest: manifest)
        write_bundle(tmp_path / "pets.ekb", contents)
        with pytest.raises(IntegrityError, match=message):
            open_bundle(tmp_path / "pets.ekb")


def test_no_budget_and_no_baseline_are_allowed(tmp_path: Path) -> None:
    contents = with_manifest(
        plain_contents(), lambda manifest: msgspec.structs.replace(manifest, baseline=None, created_unix_s=None)
    )
    write_bundle(tmp_path / "pets.ekb", contents)

    assert open_bundle(tmp_path / "pets.ekb").manifest.baseline is None
