"""Which package runs a file, and how it is configured."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import ai_edge_litert.interpreter as litert_package
import onnxruntime
import pytest

from edgekit.core.errors import MissingDependencyError, UsageError
from edgekit.runtime import onnx_runtime
from edgekit.runtime.interpreter import load_interpreter, preload_runtime
from edgekit.runtime.sample import random_input


class TestMissingRuntimes:
    def test_load_interpreter_says_what_to_install_when_onnxruntime_is_missing(
        self, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingDependencyError) as caught:
            load_interpreter(tiny_models["float.onnx"])
        assert caught.value.hint == "pip install 'onnxruntime>=1.23'"
        assert caught.value.exit_code == 3

    @pytest.mark.parametrize("death", [AttributeError, SystemError, ImportError])
    def test_load_interpreter_names_every_failure_when_no_tflite_runtime_works(
        self, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, death: type[Exception]
    ) -> None:
        """tflite-runtime with numpy 2 imports and then dies in its constructor."""

        def die(**_: object) -> None:
            raise death("_ARRAY_API not found")

        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
        monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", types.SimpleNamespace(Interpreter=die))
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(
            MissingDependencyError, match=r"ai_edge_litert: .*tflite_runtime: .*_ARRAY_API.*tensorflow: "
        ) as caught:
            load_interpreter(tiny_models["float.tflite"])
        assert caught.value.hint is not None
        assert "pip install ai-edge-litert" in caught.value.hint

    @pytest.mark.parametrize("package", ["tflite_runtime", "tensorflow"])
    def test_load_interpreter_takes_the_next_package_when_the_first_is_missing(
        self, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, package: str
    ) -> None:
        interpreter = types.SimpleNamespace(Interpreter=litert_package.Interpreter)
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
        if package == "tflite_runtime":
            monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
            monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", interpreter)
        else:
            monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(lite=interpreter))
        loaded = load_interpreter(tiny_models["float.tflite"])
        assert loaded.name == f"{package} unknown"
        assert loaded.run(random_input(loaded.input, seed=0)).shape == (1, 7)

    def test_preload_runtime_is_silent_when_the_runtime_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        preload_runtime(Path("model.onnx"))
        with pytest.raises(UsageError):
            preload_runtime(Path("model.pt"))


class TestExactSums:
    @pytest.fixture(autouse=True)
    def forget(self) -> None:
        onnx_runtime.saturates_int8_sums.cache_clear()

    @pytest.mark.parametrize(
        ("machine", "cpu_info", "expected"),
        [
            ("x86_64", "flags\t\t: fpu avx2 fma\n", True),
            ("x86_64", "flags\t\t: fpu avx2 avx512_vnni\n", False),
            ("AMD64", "flags\t\t: fpu avx2 avx_vnni\n", False),
            ("x86_64", None, True),
            ("aarch64", "Features\t: fp asimd\n", False),
        ],
    )
    def test_saturates_int8_sums_is_true_on_x86_without_vnni(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, cpu_info: str | None, expected: bool
    ) -> None:
        path = tmp_path / "cpuinfo"
        if cpu_info is not None:
            path.write_text(cpu_info)
        monkeypatch.setattr(onnx_runtime, "CPU_INFO_PATH", path)
        monkeypatch.setattr(onnx_runtime.platform, "machine", lambda: machine)
        assert onnx_runtime.saturates_int8_sums() is expected
        onnx_runtime.saturates_int8_sums.cache_clear()

    @pytest.mark.parametrize(("exact", "expected"), [(True, "1"), (False, None)])
    def test_load_interpreter_asks_for_exact_sums_only_when_told_and_needed(
        self, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, exact: bool, expected: str | None
    ) -> None:
        seen: list[onnxruntime.SessionOptions] = []
        make = onnxruntime.InferenceSession

        def spy(path: str, options: onnxruntime.SessionOptions, **rest: Any) -> object:
            seen.append(options)
            return make(path, options, **rest)

        monkeypatch.setattr(onnx_runtime, "saturates_int8_sums", lambda: True)
        monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
        interpreter = load_interpreter(tiny_models["int8.onnx"], exact=exact)
        assert interpreter.run(random_input(interpreter.input, seed=0)).shape == (1, 7)
        assert len(seen) == 1
        if expected is None:
            with pytest.raises(Exception, match="x64quantprecision"):
                seen[0].get_session_config_entry("session.x64quantprecision")
        else:
            assert seen[0].get_session_config_entry("session.x64quantprecision") == expected

    def test_load_interpreter_passes_the_threads_on(
        self, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[int] = []
        make = onnxruntime.InferenceSession

        def spy(path: str, options: onnxruntime.SessionOptions, **rest: Any) -> object:
            seen.append(options.intra_op_num_threads)
            return make(path, options, **rest)

        monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
        load_interpreter(tiny_models["float.onnx"], num_threads=2)
        assert seen == [2]


@pytest.mark.parametrize(("spin", "allowed"), [(False, "0"), (True, None)])
def test_onnx_runtime_spins_only_where_it_may(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, spin: bool, allowed: str | None
) -> None:
    entries: dict[str, str] = {}
    add = onnxruntime.SessionOptions.add_session_config_entry

    def remember(options: Any, key: str, value: str) -> None:
        entries[key] = value
        add(options, key, value)

    monkeypatch.setattr(onnxruntime.SessionOptions, "add_session_config_entry", remember)
    load_interpreter(tiny_models["int8.onnx"], num_threads=2, spin=spin)

    for pool in ("intra", "inter"):
        assert entries.get(f"session.{pool}_op.allow_spinning") == allowed
