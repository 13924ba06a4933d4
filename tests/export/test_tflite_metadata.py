"""Metadata and files behind the model, read back by independent readers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flatbuffers import encode, packer
from flatbuffers.table import Table

from edgekit.core.artifact import ModelCard
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.tflite import build_tflite, write_tflite
from edgekit.export.tflite_metadata import METADATA_NAME
from graphs import GraphBuilder
from tflite_runs import CARD, buffer_bytes, load, parse, run, text

GRAY = PreprocessSpec(input_size=(8, 6), num_channels=1, mean=(0.5,), std=(0.25,))


class Reader:
    """A flatbuffer table read by field number, straight from metadata_schema.fbs."""

    def __init__(self, content: bytes, position: int | None = None) -> None:
        root = encode.Get(packer.uoffset, content, 0) if position is None else position
        self.table = Table(content, root)

    def offset(self, field: int) -> int:
        return self.table.Offset(4 + 2 * field)

    def string(self, field: int) -> str:
        return text(self.table.String(self.offset(field) + self.table.Pos))

    def byte(self, field: int) -> int:
        return encode.Get(packer.uint8, self.table.Bytes, self.offset(field) + self.table.Pos)

    def uint(self, field: int) -> int:
        return encode.Get(packer.uint32, self.table.Bytes, self.offset(field) + self.table.Pos)

    def child(self, field: int) -> Reader:
        return Reader(self.table.Bytes, self.table.Indirect(self.offset(field) + self.table.Pos))

    def children(self, field: int) -> list[Reader]:
        start, count = self.table.Vector(self.offset(field)), self.table.VectorLen(self.offset(field))
        return [Reader(self.table.Bytes, self.table.Indirect(start + 4 * number)) for number in range(count)]

    def floats(self, field: int) -> list[float]:
        start, count = self.table.Vector(self.offset(field)), self.table.VectorLen(self.offset(field))
        return [encode.Get(packer.float32, self.table.Bytes, start + 4 * number) for number in range(count)]


def metadata_of(content: bytes) -> bytes:
    model = parse(content)
    entries = {text(entry.name): entry.buffer for entry in model.metadata or []}
    return buffer_bytes(model, entries[METADATA_NAME])


def small_file(card: ModelCard = CARD, num_classes: int = 3) -> bytes:
    channels = card.preprocess.num_channels
    net = GraphBuilder((1, channels, *card.preprocess.input_size))
    net.gemm(net.flatten(net.global_pool(net.conv("input", 4))), num_classes)
    return build_tflite(net.build(), card)


def labelled(**changes: Any) -> ModelCard:
    return msgspec.structs.replace(CARD, labels=("cat", "dog", "Ærø ferry"), **changes)


def test_metadata_names_model_tensors_and_parser_version() -> None:
    content = metadata_of(small_file(labelled()))
    model = Reader(content)

    assert content[4:8] == b"M001"
    assert (model.string(0), model.string(7)) == ("net", "1.0.0")
    (subgraph,) = model.children(3)
    assert [tensor.string(0) for tensor in (*subgraph.children(2), *subgraph.children(3))] == ["input", "gemm_3"]


@pytest.mark.parametrize(("preprocess", "color_space"), [(CARD.preprocess, 1), (GRAY, 2)])
def test_input_metadata_gives_normalization_on_0_to_255(preprocess: PreprocessSpec, color_space: int) -> None:
    model = Reader(metadata_of(small_file(labelled(preprocess=preprocess))))
    tensor = model.children(3)[0].children(2)[0]
    content, unit = tensor.child(3), tensor.children(4)[0]

    assert (content.byte(0), content.child(1).byte(0)) == (2, color_space)
    size = content.child(1).child(1)
    assert (size.uint(1), size.uint(0)) == preprocess.input_size
    assert unit.byte(0) == 1
    np.testing.assert_allclose(unit.child(1).floats(0), 255 * np.array(preprocess.mean), rtol=1e-6)
    np.testing.assert_allclose(unit.child(1).floats(1), 255 * np.array(preprocess.std), rtol=1e-6)


def test_output_metadata_points_to_the_labels() -> None:
    model = Reader(metadata_of(small_file(labelled())))
    tensor = model.children(3)[0].children(3)[0]
    (labels,) = tensor.children(6)

    assert tensor.child(3).byte(0) == 1
    assert (labels.string(0), labels.byte(2)) == ("labels.txt", 2)


def test_reader_of_these_tests_understands_an_official_file(shared_data: Path) -> None:
    content = metadata_of((shared_data / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes())
    subgraph = Reader(content).children(3)[0]
    unit = subgraph.children(2)[0].children(4)[0]

    assert content[4:8] == b"M001"
    assert subgraph.children(2)[0].child(3).byte(0) == 2
    assert (unit.child(1).floats(0), unit.child(1).floats(1)) == ([127.5], [127.5])
    assert subgraph.children(3)[0].children(6)[0].byte(2) == 2


def test_archive_behind_the_model_holds_labels_and_card() -> None:
    card = labelled()

    with zipfile.ZipFile(io.BytesIO(small_file(card))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt", "edgekit.card.json"]
        assert archive.read("labels.txt").decode().splitlines() == list(card.labels)
        assert msgspec.json.decode(archive.read("edgekit.card.json"), type=ModelCard) == card
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_archive_of_a_written_file_opens_by_path(tmp_path: Path) -> None:
    net = GraphBuilder((1, 3, 8, 8))
    net.gemm(net.flatten("input"), 3)
    artifact = write_tflite(net.build(), tmp_path / "model.tflite", labelled())

    with zipfile.ZipFile(artifact.path) as archive:
        assert "edgekit.card.json" in archive.namelist()
    assert load(artifact.path.read_bytes()).get_output_details()[0]["shape"].tolist() == [1, 3]


def test_file_without_labels_has_a_card_and_no_label_file() -> None:
    content = small_file()

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["edgekit.card.json"]
    output = Reader(metadata_of(content)).children(3)[0].children(3)[0]
    assert output.offset(6) == 0


def test_label_with_a_line_break_takes_one_line_of_the_label_file() -> None:
    card = msgspec.structs.replace(CARD, labels=("cat", "two\nlines", "dog"))

    with zipfile.ZipFile(io.BytesIO(small_file(card))) as archive:
        assert archive.read("labels.txt") == b"cat\ntwo lines\ndog\n"


def test_archive_does_not_disturb_the_interpreter() -> None:
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)

    np.testing.assert_array_equal(run(small_file(labelled()), x), run(small_file(), x))
