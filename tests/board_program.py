"""What stands for `edgekit` on a board of tests: the same words and answers, no model, and a gate that can be told.

`agent run` writes its process id, answers /status on the configured port, and takes SIGHUP; `agent install` reads the
bundle with the real reader; a file `refuse` in the state folder makes the gate say no with what is in it.
"""

# ruff: noqa: T201
from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import sys
import time
from pathlib import Path

import tomllib


def main(words: list[str]) -> int:
    if words == ["--version"]:
        print("edgekit 0.0.0 of tests")
        return 0
    verb, rest = words[1], words[2:]
    if verb == "run":
        return run(Path(option(rest, "--config")))
    state = Path(option(rest, "--state"))
    with (state / "calls.log").open("a", encoding="utf-8") as log:
        log.write(json.dumps([verb, *rest]) + "\n")
    return install(Path(rest[0]), state) if verb == "install" else rollback(state)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def install(bundle: Path, state: Path) -> int:
    from edgekit.bundle.reading import open_bundle

    opened = open_bundle(bundle)
    report = {
        "result": "committed", "digest": opened.digest, "serving": opened.digest, "detail": "", "seconds": 0.1,
        "findings": [{"rule": "p90", "outcome": "passed", "detail": "p90 3.1 ms, allowed 40 ms"}],
    }  # fmt: skip
    if (state / "refuse").exists():
        detail = (state / "refuse").read_text("utf-8")
        current = state / "current"
        report |= {
            "result": "rolled_back", "serving": current.readlink().name if current.is_symlink() else None,
            "findings": [{"rule": "p90", "outcome": "failed", "detail": detail}], "detail": detail,
        }  # fmt: skip
        print(json.dumps(report))
        return 1
    folder = state / "releases" / opened.digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(manifest_of(bundle))
    point(state, opened.digest)
    print(json.dumps(report))
    return 0


def manifest_of(bundle: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(bundle) as archive:
        return archive.read("manifest.json")


def point(state: Path, digest: str) -> None:
    current, previous = state / "current", state / "previous"
    if current.is_symlink():
        previous.unlink(missing_ok=True)
        previous.symlink_to(current.readlink())
        current.unlink()
    current.symlink_to(f"releases/{digest}")


def rollback(state: Path) -> int:
    previous = state / "previous"
    if not previous.is_symlink():
        print("error: there is no previous release to go back to", file=sys.stderr)
        return 2
    gone = (state / "current").readlink().name
    digest = previous.readlink().name
    (state / "current").unlink()
    (state / "current").symlink_to(f"releases/{digest}")
    previous.unlink()
    shutil.rmtree(state / "releases" / gone)
    print(json.dumps({"result": "rolled_back", "digest": gone, "serving": digest, "detail": "asked for"}))
    return 0


def run(config: Path) -> int:
    settings = tomllib.loads(config.read_text("utf-8"))
    bundle = Path(settings["bundle"])
    started_s = time.monotonic()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = settings.get("web", {}).get("token")
            if token is not None and self.headers.get("Authorization") != f"Bearer {token}":
                self.send_error(401)
                return
            content = json.dumps(status(bundle, time.monotonic() - started_s)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            print(format % args, file=sys.stderr, flush=True)

    http.server.HTTPServer.allow_reuse_address = True
    print("the agent of tests serves", file=sys.stderr, flush=True)
    http.server.HTTPServer(("127.0.0.1", settings.get("web", {}).get("port", 8080)), Page).serve_forever()
    return 0


def status(bundle: Path, uptime_s: float) -> dict[str, object]:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    model = manifest["model"]
    stage = {
        "stage": "end_to_end",
        "n": 500,
        "mean_ms": 3.0,
        "max_ms": 9.0,
        "p50_ms": 3.0,
        "p90_ms": 4.5,
        "p99_ms": None,
    }
    return {
        "device_id": "board", "time_unix_s": time.time(), "uptime_s": uptime_s, "state": "serving", "detail": "",
        "camera": {"kind": "folder", "source": "x", "state": "streaming"},
        "model": {
            "name": model["name"], "scheme": model["scheme"], "sha256": model["sha256"],
            "release": manifest["release"] or None, "packed_bytes": 1, "file_bytes": model["size_bytes"],
            "resident_mib": 1.0, "load_ms": 1.0, "first_inference_ms": 1.0, "num_golden": 2, "runtime": "none",
            "num_threads": 1, "num_classes": 3,
        },
        "answer": {"label": "ant", "confidence": 0.9, "top": [["ant", 0.9]], "age_ms": 1.0, "sequence": 7},
        "fps_out": 10.0, "num_answers": 500, "recent": None, "total": [stage],
        "system": {
            "board": "host_cpu", "cpu_percent": 1.0, "rss_mib": 10.0, "temperature_c": 40.0, "throttle": None,
        },
        "drift": None, "mqtt": {"state": "off"},
        "digest": hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
