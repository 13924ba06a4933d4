"""Load one model file in a process of its own and print what that took: `python -m edgekit.runtime.probe FILE`.

Peak memory belongs to a process, and so do the warm caches of a runtime. Measuring several files in one process would
give each the peak of the largest and a loading time that an earlier one paid for.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import msgspec

from edgekit.core.errors import EdgekitError
from edgekit.runtime.interpreter import RawArray, load_interpreter, preload_runtime
from edgekit.runtime.sample import random_input

STATUS_PATH = Path("/proc/self/status")


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one fresh process saw.

    Args:
        runtime: Runtime and version.
        load_ms: Time to load the file. The runtime's own libraries were imported before; the file is likely cached.
        first_ms: Wall time of the first inference.
        peak_rss_mib: Peak resident memory of the whole process: Python, numpy, runtime and model.
    """

    runtime: str
    load_ms: float
    first_ms: float
    peak_rss_mib: float


def probe(path: Path, *, num_threads: int = 1, exact: bool = True, num_runs: int = 4) -> ProbeResult:
    """Load a file and run it a few times, in this process. Raises as `load_interpreter` and `Interpreter.run`."""
    preload_runtime(path)
    started = time.perf_counter()
    interpreter = load_interpreter(path, num_threads=num_threads, exact=exact)
    loaded = time.perf_counter()
    batch: RawArray = random_input(interpreter.input, seed=0)
    before_first = time.perf_counter()
    interpreter.run(batch)
    after_first = time.perf_counter()
    for _ in range(num_runs - 1):
        interpreter.run(batch)
    return ProbeResult(
        runtime=interpreter.name,
        load_ms=(loaded - started) * 1e3,
        first_ms=(after_first - before_first) * 1e3,
        peak_rss_mib=peak_rss_mib(),
    )


def peak_rss_mib(status_path: Path = STATUS_PATH) -> float:
    """Peak resident memory of this process.

    Linux's VmHWM, not getrusage: the latter survives exec, so a child starts with the peak of the parent that made it.
    """
    try:
        lines = status_path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 2**20


def main() -> int:
    """Print a `ProbeResult` as JSON; on an error print its message on stderr and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.runtime.probe", description=__doc__)
    parser.add_argument("file", type=Path, help="model file")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime")
    parser.add_argument("--inexact", action="store_true", help="let integer kernels saturate (ONNX Runtime on x86)")
    arguments = parser.parse_args()
    try:
        result = probe(arguments.file, num_threads=arguments.threads, exact=not arguments.inexact)
    except EdgekitError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
