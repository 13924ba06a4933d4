from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edgekit.core.errors import DataError
from edgekit.data.download import download_file

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
            return
        self.send_response(200)
        if self.path != "/unannounced":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        whole = self.path == "/whole"
        self.wfile.write(CONTENT if whole else CONTENT[: len(CONTENT) // 2])

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["whole", "moved"])
def test_download_puts_the_whole_file_in_place(page: str, address: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "data.bin"
    assert download_file(f"{address}/{page}", target, sha256=SHA256) == target
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_download_prints_nothing_when_stderr_is_no_terminal(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    download_file(f"{address}/whole", tmp_path / "data.bin", sha256=SHA256)
    assert capfd.readouterr() == ("", "")


def test_download_draws_a_bar_when_stderr_is_a_terminal(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    download_file(f"{address}/whole", tmp_path / "data.bin", sha256=SHA256)
    captured = capsys.readouterr()
    assert "whole" in captured.err
    assert "512.0" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("page", "message"),
    [("missing", "HTTP 404"), ("broken_off", "broke off"), ("unannounced", "not the expected one")],
)
def test_download_leaves_nothing_behind_when_it_fails(page: str, message: str, address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        download_file(f"{address}/{page}", tmp_path / "data.bin", sha256=SHA256)
    assert f"{address}/{page}" in caught.value.message
    assert "\n" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_download_is_refused_when_the_hash_is_another(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the expected one") as caught:
        download_file(f"{address}/whole", tmp_path / "data.bin", sha256="0" * 64)
    assert SHA256 in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_download_says_so_when_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no connection"):
        download_file("http://127.0.0.1:9/data.bin", tmp_path / "data.bin", sha256=SHA256)


def test_download_names_the_target_when_it_cannot_be_written(address: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot write"):
        download_file(f"{address}/whole", tmp_path / "file" / "data.bin", sha256=SHA256)
