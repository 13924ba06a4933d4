from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError, OutputError, UsageError
from edgekit.core.report import REPORT_VERSION, Report
from edgekit.report.files import encode_report, read_report, without_surrogates, write_report

Build = Callable[..., Report]
GOLDEN = Path(__file__).parent.parent / "golden"


def test_written_report_reads_back_equal(report: Report, tmp_path: Path) -> None:
    files = write_report(report, tmp_path / "run")
    assert read_report(files.json_path) == report
    assert read_report(tmp_path / "run") == report
    assert files.html_path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]


def test_bare_and_unlabelled_reports_read_back_equal(bare: Report, unlabelled: Report, tmp_path: Path) -> None:
    for each in (bare, unlabelled):
        assert read_report(write_report(each, tmp_path).json_path) == each


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    name=st.text(st.characters()),
    text=st.text(),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    matrix=st.lists(st.lists(st.integers(0, 10**9), max_size=4), max_size=4),
)
def test_any_text_and_numbers_survive_json(
    report: Report, tmp_path: Path, name: str, text: str, numbers: list[float], matrix: list[list[int]]
) -> None:
    odd = msgspec.structs.replace(
        report,
        model=name,
        command=text,
        environment={text: name},
        confusion=tuple(map(tuple, matrix)),
        layers=tuple(
            msgspec.structs.replace(layer, name=text, density=value)
            for layer, value in zip(report.layers, numbers, strict=False)
        ),
    )
    odd = without_surrogates(odd)
    path = tmp_path / "report.json"
    path.write_text(encode_report(odd), encoding="utf-8")
    assert read_report(path) == odd


def test_numbers_that_are_not_finite_come_back_as_nan_or_none(report: Report, change: Build, tmp_path: Path) -> None:
    assert report.agreement is not None
    agreement = msgspec.structs.replace(
        report.agreement,
        tflite=msgspec.structs.replace(report.agreement.tflite, max_abs_error=math.inf),
        float_onnx=msgspec.structs.replace(report.agreement.tflite, max_abs_error=math.nan),
    )
    layer = msgspec.structs.replace(report.layers[0], sqnr_db=math.inf)
    odd = change(agreement=agreement, layers=(layer,))
    back = read_report(write_report(odd, tmp_path).json_path)
    assert back.agreement is not None
    assert math.isnan(back.agreement.tflite.max_abs_error)
    assert back.agreement.float_onnx is not None
    assert math.isnan(back.agreement.float_onnx.max_abs_error)
    assert back.layers[0].sqnr_db is None


def test_names_in_another_encoding_are_written_readably(change: Build, tmp_path: Path) -> None:
    files = write_report(change(model="caf\udce9"), tmp_path)
    assert read_report(files.json_path).model == "caf\\udce9"
    assert "caf\\udce9" in files.html_path.read_text(encoding="utf-8")


def test_json_keeps_number_rows_on_one_line(report: Report) -> None:
    text = encode_report(report)
    assert '"input_shape": [1, 1, 28, 28],' in text
    assert len(text.splitlines()) < 700
    assert json.loads(text)["confusion"] == [list(row) for row in report.confusion or ()]


def test_strings_that_look_like_layout_are_left_alone(change: Build) -> None:
    odd = "[\n  1,\n  2\n]"
    assert json.loads(encode_report(change(command=odd)))["command"] == odd


def test_version_1_is_readable_for_ever() -> None:
    report = read_report(GOLDEN / "report_v1.json")
    assert report.version == 1
    assert report.model == "mobilenet_v2_w0.5"
    assert report.sizes.limit_bytes == 652_118
    assert report.layers[3].sqnr_db is None
    assert report.first_divergent_layer == report.checks[-1].layer == "features.1.conv.1"
    assert report.accuracy.tflite is not None
    assert report.accuracy.tflite.ci95 == (0.9202050761487912, 0.9504503368822722)


def test_current_version_is_written_byte_for_byte_as_the_golden_file() -> None:
    golden = GOLDEN / f"report_v{REPORT_VERSION}_features.json"
    assert encode_report(read_report(golden)) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "later"),
    [
        ("report_v1.json", {"shrink": None, "bits": None, "features": None}),
        ("report_v1_shrunk.json", {"bits": None, "features": None}),
        ("report_v1_mixed.json", {"features": None}),
    ],
)
def test_fields_of_an_earlier_edgekit_are_written_as_they_were(name: str, later: dict[str, None]) -> None:
    golden = GOLDEN / name
    before = json.loads(golden.read_text(encoding="utf-8"))
    assert json.loads(encode_report(read_report(golden))) == {**before, **later}


def test_fields_from_a_later_edgekit_are_skipped(tmp_path: Path) -> None:
    document = json.loads((GOLDEN / "report_v1.json").read_text(encoding="utf-8"))
    document["a_later_field"] = document["sizes"]["another"] = 5
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_report(path) == read_report(GOLDEN / "report_v1.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"version": 1', "no JSON"),
        (b"[1]", "no report"),
        (b'{"model": "x"}', "no report"),
        (b'{"version": 1, "model": 5}', "schema"),
        (b'{"version": 99}', "version 99, expected at most 1"),
        (b'{"version": 1, "accuracy": [1, 2], "layers": {}, "confusion": [[null]]}', "schema"),
    ],
)
def test_damaged_report_is_an_integrity_error(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=words) as caught:
        read_report(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_missing_report_is_a_usage_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no report at .*report\.json"):
        read_report(tmp_path)


def test_nothing_is_left_behind_when_the_folder_cannot_be_made(report: Report, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file is in the way", encoding="utf-8")
    with pytest.raises(OutputError):
        write_report(report, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def _structs(kind: msgspec.inspect.Type, found: dict[str, msgspec.inspect.StructType]) -> None:
    if isinstance(kind, msgspec.inspect.StructType):
        found[kind.cls.__name__] = kind
        for field in kind.fields:
            _structs(field.type, found)
    for child in getattr(kind, "types", getattr(kind, "item_types", ())):
        _structs(child, found)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        _structs(kind.item_type, found)


def test_docs_name_every_struct_and_field_of_the_schema(repository: Path) -> None:
    page = (repository / "docs" / "report.md").read_text(encoding="utf-8")
    found: dict[str, msgspec.inspect.StructType] = {}
    _structs(msgspec.inspect.type_info(Report), found)
    assert {"Report", "LayerRow", "Latency", "Agreement", "Disagreement"} <= found.keys()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for name, kind in found.items():
        section = next((text for text in sections if f"`{name}`" in text.splitlines()[0]), None)
        assert section is not None, f"docs/report.md has no section about {name}"
        missing = [field.encode_name for field in kind.fields if f"`{field.encode_name}`" not in section]
        assert not missing, f"docs/report.md does not name {missing} of {name}"
