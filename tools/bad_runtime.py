"""A runtime that does what a bad model does to a good one: a folder that stands in front of `ai_edge_litert`.

The trial process finds it through PYTHONPATH; nothing of edgekit is changed or knows of it. What it does is told by an
environment variable, because a model file that makes a runtime crash is a defect of that runtime, found today and
mended tomorrow: 1,500 random corruptions of a TFLite file gave not one crash of LiteRT 2.
"""

from __future__ import annotations

from pathlib import Path

MODE = "EDGEKIT_BAD_RUNTIME"

_PACKAGE = """
import pkgutil
__path__ = pkgutil.extend_path(__path__, __name__)
"""

_INTERPRETER = """
import ctypes, importlib.util, itertools, os, signal, sys, time
from pathlib import Path

import numpy as np

here = Path(__file__).resolve().parent
places = [Path(one) / "ai_edge_litert" / "interpreter.py" for one in sys.path]
place = next(one for one in places if one.is_file() and one.resolve().parent != here)
spec = importlib.util.spec_from_file_location("ai_edge_litert._real_interpreter", place)
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)
mode = os.environ.get("EDGEKIT_BAD_RUNTIME", "")
hoard = []


def segfault():
    ctypes.string_at(0)


def hang(deaf=False):
    if deaf:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1000)


def eat():
    while True:
        hoard.append(np.ones(1 << 23, np.float64))


class Interpreter(real.Interpreter):
    def __init__(self, *arguments, **options):
        self.invoked, self.read = itertools.count(1), itertools.count(1)
        acts = {
            "segfault_on_load": segfault,
            "abort_on_load": os.abort,
            "exit_on_load": lambda: os._exit(0),
            "hang_on_load": hang,
            "memory_on_load": eat,
        }
        acts.get(mode, lambda: None)()
        super().__init__(*arguments, **options)

    def invoke(self):
        call = next(self.invoked)
        late = {"segfault_later": segfault, "memory_later": eat, "hang_later": lambda: hang(deaf=True)}
        if mode in late and call == 40:
            late[mode]()
        if mode == "slow":
            time.sleep(0.05)
        super().invoke()

    def get_tensor(self, index):
        answer = super().get_tensor(index)
        call = next(self.read)
        if mode == "drifts" and call > 60:
            answer = np.roll(answer, 1)
        return answer
"""


def write_bad_runtime(folder: Path) -> Path:
    """Make the folder that goes to the front of PYTHONPATH."""
    package = folder / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_PACKAGE, encoding="utf-8")
    (package / "interpreter.py").write_text(_INTERPRETER, encoding="utf-8")
    return folder
