from __future__ import annotations

import os
import shutil
import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import DataError, OutputError, UsageError
from edgekit.export.tflite import write_tflite
from edgekit.retrieval import search as module
from edgekit.retrieval.extractor import Extractor
from edgekit.retrieval.index import DamagedIndexError, FeatureIndex
from edgekit.retrieval.nearest import similarities
from edgekit.retrieval.search import Found, SearchRequest, search
from edgekit.runtime.reading import read_picture
from extractors import CARD, LONG_AGO_NS, SPEC, draw, tiny_classifier, write_extractors, write_picture, write_pictures


@pytest.fixture(scope="module")
def extractors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_extractors(tmp_path_factory.mktemp("extractors"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of other tests are of the same content, and would be known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(extractors: dict[str, Path]) -> Path:
    return extractors["int8.tflite"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """70 pictures: more than two batches."""
    write_pictures(tmp_path / "pictures", 70)
    return tmp_path / "pictures"


def find(folder: Path, like: Path, model: Path, *, top: int = 10, index: Path | None = None) -> Found:
    return search(SearchRequest(folder=folder, like=like, model=model, top=top, index_path=index))


def names(found: Found) -> list[str]:
    return [Path(match.path).name for match in found.matches]


@pytest.mark.parametrize("name", ["float.onnx", "int8.onnx", "float.tflite", "int8.tflite"])
def test_search_ranks_as_comparing_one_by_one(
    extractors: dict[str, Path], folder: Path, tmp_path: Path, name: str
) -> None:
    like = write_picture(tmp_path / "like.png", draw(999))
    extractor = Extractor.open(extractors[name])

    found = find(folder, like, extractors[name], top=100)

    def describe(path: Path) -> np.ndarray:
        return extractor.describe(extractor.fit(read_picture(path))[np.newaxis])[0]

    query = describe(like)
    scores = {path.name: float(similarities(query, describe(path)[np.newaxis])[0]) for path in folder.iterdir()}
    expected = sorted(scores, key=lambda one: (-scores[one], one))
    assert found.num_pictures == len(found.matches) == 70
    assert sorted(names(found)) == sorted(expected)
    for match in found.matches:  # a batch may be computed in other blocks than one picture
        assert match.similarity == pytest.approx(scores[Path(match.path).name], abs=1e-5)
    assert [match.similarity for match in found.matches] == sorted(
        (match.similarity for match in found.matches), reverse=True
    )
    assert names(found)[0] == expected[0]


def test_exact_duplicate_is_found_first(folder: Path, model: Path, tmp_path: Path) -> None:
    like = Path(shutil.copy(folder / "0042.png", tmp_path / "like.png"))
    found = find(folder, like, model)
    assert names(found)[0] == "0042.png"
    assert found.matches[0].similarity == 1.0
    assert len(found.matches) == 10


def test_duplicates_tie_and_come_in_the_order_of_their_paths(folder: Path, model: Path) -> None:
    for name in ("zz.png", "a.png", "deeper/again.png"):
        write_picture(folder / name, draw(42))
    found = find(folder, folder / "0042.png", model, top=4)
    assert [match.similarity for match in found.matches] == [1.0] * 4
    assert names(found) == ["0042.png", "a.png", "again.png", "zz.png"]
    assert names(find(folder, folder / "0042.png", model, top=2)) == ["0042.png", "a.png"]


def test_packed_extractor_finds_the_same(model: Path, folder: Path, tmp_path: Path) -> None:
    from edgekit.encode.files import pack_file

    packed = pack_file(model, tmp_path / "model.ekz").path
    assert find(folder, folder / "0001.png", packed).matches == find(folder, folder / "0001.png", model).matches


def test_second_search_reads_new_pictures_only(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find(folder, folder / "0000.png", model)
    write_picture(folder / "new.png", draw(777))
    read: list[str] = []
    real = module.read_content
    monkeypatch.setattr(module, "read_content", lambda path: read.append(path.name) or real(path))

    second = find(folder, folder / "0000.png", model, top=100)

    assert (first.num_described, second.num_described) == (70, 1)
    assert read == ["new.png"]
    assert first.matches == second.matches[:10] or "new.png" in names(second)[:10]


def test_pictures_are_known_under_whatever_name_the_folder_is_given(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(folder, folder / "0000.png", model)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(module, "read_content", lambda path: pytest.fail(f"{path} is read again"))
    assert names(find(Path(), Path("0000.png"), model))[0] == "0000.png"


def test_moved_and_copied_pictures_are_not_described_again(folder: Path, model: Path) -> None:
    find(folder, folder / "0000.png", model)
    (folder / "0001.png").rename(folder / "moved.png")
    shutil.copy(folder / "0002.png", folder / "copy.png")
    found = find(folder, folder / "0000.png", model)
    assert (found.num_pictures, found.num_described) == (71, 0)


def test_changed_picture_is_described_again_whatever_its_time_says(folder: Path, model: Path) -> None:
    like = folder / "0005.png"
    find(folder, like, model)
    changed = folder / "0009.png"
    changed.write_bytes(like.read_bytes())
    os.utime(changed, ns=(LONG_AGO_NS, LONG_AGO_NS))  # as a careless copy would set it

    found = find(folder, like, model, top=2)

    assert [match.similarity for match in found.matches] == [1.0, 1.0]
    assert names(found) == ["0005.png", "0009.png"]
    assert found.num_described == 0  # its new content is known under another name


def test_changed_picture_of_new_content_is_described_again(folder: Path, model: Path) -> None:
    find(folder, folder / "0005.png", model)
    write_picture(folder / "0009.png", draw(4321))
    assert find(folder, folder / "0005.png", model).num_described == 1


def test_pictures_are_described_again_for_another_model(folder: Path, model: Path, extractors: dict[str, Path]) -> None:
    assert find(folder, folder / "0000.png", model).num_described == 70
    assert find(folder, folder / "0000.png", extractors["float.onnx"]).num_described == 70
    assert find(folder, folder / "0000.png", model).num_described == 0


def test_model_that_was_replaced_under_its_name_is_another(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    shutil.copy(write_extractors(tmp_path / "one")["int8.tflite"], path)
    before = find(folder, folder / "0000.png", path)
    shutil.copy(write_extractors(tmp_path / "other", seed=4)["int8.tflite"], path)
    after = find(folder, folder / "0000.png", path)
    assert (before.num_described, after.num_described) == (70, 70)
    assert before.matches != after.matches


def test_index_lies_where_the_user_says(folder: Path, model: Path, tmp_path: Path) -> None:
    index = tmp_path / "kept" / "kitchen.index"
    found = find(folder, folder / "0000.png", model, index=index)
    assert found.index_path == index
    assert index.is_file()
    assert find(folder, folder / "0000.png", model, index=index).num_described == 0


def test_index_damaged_inside_is_made_anew(folder: Path, model: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    first = find(folder, folder / "0000.png", model, index=index)
    content = bytearray(index.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    index.write_bytes(content)

    found = find(folder, folder / "0000.png", model, index=index)

    assert (found.num_pictures, found.num_described) == (70, 70)
    assert found.matches == first.matches
    assert find(folder, folder / "0000.png", model, index=index).num_described == 0


def test_index_cut_short_is_made_anew(folder: Path, model: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    find(folder, folder / "0000.png", model, index=index)
    index.write_bytes(index.read_bytes()[:6000])
    assert find(folder, folder / "0000.png", model, index=index).num_pictures == 70


def test_disk_that_damages_every_index_is_told(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DamagedIndexError("malformed")

    monkeypatch.setattr(FeatureIndex, "recall", fail)
    with pytest.raises(OutputError, match="damaged again"):
        find(folder, folder / "0000.png", model)


def test_interrupted_search_keeps_what_it_has(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.read_content

    def read(path: Path) -> bytes:
        if path.name == "0050.png":
            raise KeyboardInterrupt
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_content", read)
        with pytest.raises(KeyboardInterrupt):
            find(folder, folder / "0000.png", model)
    assert find(folder, folder / "0000.png", model).num_described == 70 - 32


def test_unreadable_pictures_are_named_and_left_out(folder: Path, model: Path) -> None:
    whole = (folder / "0003.png").read_bytes()
    (folder / "0003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "0004.jpg").write_bytes(b"")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")

    for _ in range(2):
        found = find(folder, folder / "0000.png", model, top=100)
        assert (found.num_pictures, found.num_unreadable) == (69, 3)
        assert [name for name in ("0003.png", "0004.jpg", "gone.png") if name in " ".join(found.unreadable)] == [
            "0003.png",
            "0004.jpg",
            "gone.png",
        ]


def test_only_twenty_unreadable_pictures_are_named(folder: Path, model: Path) -> None:
    for index in range(30):
        (folder / f"broken{index}.png").write_bytes(b"no picture")
    found = find(folder, folder / "0000.png", model)
    assert (found.num_unreadable, len(found.unreadable), found.num_pictures) == (30, 20, 70)


def test_folder_of_unreadable_pictures_is_an_error(folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no picture in .*broken can be read: unreadable picture .*a\.png"):
        find(tmp_path / "broken", folder / "0000.png", model)


def test_folder_without_pictures_is_an_error(folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    write_picture(tmp_path / "empty" / ".hidden" / "a.png", draw(1))
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"no pictures in .*empty"):
        find(tmp_path / "empty", folder / "0000.png", model)


@pytest.mark.parametrize("name", ["nowhere", "pictures/0000.png"])
def test_folder_that_is_none_is_an_error(folder: Path, model: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no folder at"):
        find(folder.parent / name, folder / "0000.png", model)


def test_query_that_cannot_be_read_is_an_error(folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "like.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"unreadable picture .*like\.png"):
        find(folder, tmp_path / "like.png", model)
    with pytest.raises(DataError, match="no picture at"):
        find(folder, tmp_path / "nowhere.png", model)


def test_nothing_wanted_is_an_error(folder: Path, model: Path) -> None:
    with pytest.raises(UsageError, match="top is 0, expected at least 1"):
        find(folder, folder / "0000.png", model, top=0)


def test_classifier_is_refused_with_the_way_to_an_extractor(folder: Path, tmp_path: Path) -> None:
    import msgspec

    path = tmp_path / "model.tflite"
    card = msgspec.structs.replace(CARD, kind="classifier")
    write_tflite(tiny_classifier(), path, card)
    with pytest.raises(UsageError, match="is a classifier: it gives tiny's classes") as caught:
        find(folder, folder / "0000.png", path)
    assert caught.value.hint is not None
    assert "edgekit embed" in caught.value.hint


def test_features_that_are_not_finite_name_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.core.errors import GraphError

    extractor = Extractor.open(model)
    monkeypatch.setattr("edgekit.retrieval.extractor.predict_logits", lambda *_: np.full((1, 16), np.nan, np.float32))
    with pytest.raises(GraphError, match=r"int8\.tflite: features are NaN"):
        extractor.describe(np.zeros((1, *SPEC.input_size, 3), np.uint8))


def test_memory_does_not_grow_with_the_number_of_pictures(model: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "many", 400)
    write_pictures(tmp_path / "few", 40)
    like = tmp_path / "few" / "0000.png"

    def peak(folder: Path, index: str) -> int:
        tracemalloc.start()
        try:
            find(folder, like, model, index=tmp_path / index)  # a new index each time: all are described
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(tmp_path / "few", "first")  # what is imported and cached is there afterwards
    few, many = peak(tmp_path / "few", "second"), peak(tmp_path / "many", "third")
    assert many - few < 100_000  # the other 360 pictures alone have 432,000 bytes


def test_vectors_are_kept_as_float32(folder: Path, model: Path, tmp_path: Path) -> None:
    find(folder, folder / "0000.png", model, index=tmp_path / "index")
    connection = sqlite3.connect(tmp_path / "index")
    sizes = connection.execute("SELECT DISTINCT length(vector) FROM vectors").fetchall()
    connection.close()
    assert sizes == [(4 * 16,)]
