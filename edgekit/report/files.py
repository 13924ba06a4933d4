"""The report as files: `report.json` for programs, `report.html` for people."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.core.report import REPORT_VERSION, Report
from edgekit.core.storage import write_text
from edgekit.report.page import render_html

Document = TypeVar("Document", bound=msgspec.Struct)

# Arrays of plain numbers go on one line: a confusion matrix of 1,000 classes would otherwise be a million lines.
# A line break cannot occur inside a JSON string, so the pattern only ever matches layout.
_NUMBER_ARRAY = re.compile(r"\[\n\s+((?:-?[0-9][0-9.eE+-]*(?:,\n\s+)?)+)\n\s+\]")


class ReportFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a report was written."""

    json_path: Path
    html_path: Path


class Filing(msgspec.Struct, Generic[Document], frozen=True, kw_only=True):
    """How one kind of report lies in files.

    Args:
        stem: Of the files' names: `<stem>.json` and `<stem>.html`.
        schema: Of the JSON document.
        newest: Version of the schema that this edgekit writes.
        hint: What makes such a report.
    """

    stem: str
    schema: type[Document]
    newest: int
    hint: str

    def write(self, document: Document, folder: Path, render: Callable[[Document], str]) -> ReportFiles:
        """Write both files into a folder, each atomically.

        Args:
            document: The report.
            folder: Made if it is not there.
            render: Makes the single-file, offline page.

        Raises:
            OutputError: The disk is full or the folder is not writable.
        """
        clean = without_surrogates(document)
        files = ReportFiles(json_path=folder / f"{self.stem}.json", html_path=folder / f"{self.stem}.html")
        write_text(files.json_path, encode_report(clean))
        write_text(files.html_path, render(clean))
        return files

    def read(self, path: Path) -> Document:
        """Read the JSON document back (or the one in a folder). A null where a number is due becomes NaN.

        Raises:
            UsageError: There is none at this place.
            IntegrityError: The file is no such document, is damaged, or was written by a newer edgekit.
        """
        return _read_versioned(path / f"{self.stem}.json" if path.is_dir() else path, self)


_REPORT = Filing(
    stem="report", schema=Report, newest=REPORT_VERSION, hint="a run folder holds one after `edgekit compress`"
)
JSON_NAME = f"{_REPORT.stem}.json"


def write_report(report: Report, run_dir: Path) -> ReportFiles:
    """Write `report.json` and `report.html` into a run folder. Raises as `Filing.write`."""
    return _REPORT.write(report, run_dir, render_html)


def read_report(path: Path) -> Report:
    """Read a `report.json` back (or the one in a run folder). Raises as `Filing.read`."""
    return _REPORT.read(path)


def encode_report(report: msgspec.Struct) -> str:
    """JSON text of a report, indented; numbers that are not finite become null (JSON has no word for them)."""
    indented = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    return _NUMBER_ARRAY.sub(_on_one_line, indented) + "\n"


def _on_one_line(match: re.Match[str]) -> str:
    return "[" + re.sub(r",\s+", ", ", match[1]) + "]"


def _read_versioned(path: Path, filing: Filing[Document]) -> Document:
    """Read a JSON document of a schema with versions. Raises as `Filing.read`."""
    try:
        document: object = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"no report at {path}", hint=filing.hint) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is no JSON document: {error}", hint="make the run again") from error
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise IntegrityError(f"{path} is no report: expected an object with a version", hint=f"give a {path.name}")
    if version > filing.newest:
        raise IntegrityError(
            f"{path}: report version {version}, expected at most {filing.newest}",
            hint="it was written by a newer edgekit; upgrade to read it",
        )
    try:
        return msgspec.convert(_restore_numbers(document, msgspec.inspect.type_info(filing.schema)), filing.schema)
    except msgspec.ValidationError as error:
        raise IntegrityError(f"{path} does not fit the report schema: {error}", hint="see docs/report.md") from error


def without_surrogates(report: Document) -> Document:
    r"""A copy in which names that are not valid Unicode (file names in another encoding) read as `\udcff`."""
    return msgspec.convert(_escape_surrogates(msgspec.to_builtins(report)), type(report))


def _escape_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escape_surrogates(key): _escape_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], int):
            return value
        return [_escape_surrogates(item) for item in value]
    return value


def _restore_numbers(value: object, kind: msgspec.inspect.Type) -> object:
    """NaN for every null at a place whose type is a plain float."""
    if isinstance(kind, msgspec.inspect.FloatType):
        return math.nan if value is None else value
    if isinstance(kind, msgspec.inspect.StructType) and isinstance(value, dict):
        kinds = {field.encode_name: field.type for field in kind.fields}
        return {key: _restore_numbers(item, kinds[key]) if key in kinds else item for key, item in value.items()}
    if isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(value, list):
        return [_restore_numbers(item, kind.item_type) for item in value]
    if isinstance(kind, msgspec.inspect.TupleType) and isinstance(value, list):
        if len(value) != len(kind.item_types):
            return value  # the schema check words the error
        return [_restore_numbers(item, of) for item, of in zip(value, kind.item_types, strict=True)]
    if isinstance(kind, msgspec.inspect.UnionType) and value is not None:
        structs = [member for member in kind.types if isinstance(member, msgspec.inspect.StructType)]
        return _restore_numbers(value, structs[0]) if len(structs) == 1 else value
    return value
