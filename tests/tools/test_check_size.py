from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_size import MAX_FUNCTION_LINES, MAX_MODULE_LINES, check_module, count_lines, is_empty_name, main


def function_of(num_statements: int, num_docstring_lines: int = 0) -> str:
    """Source of a function whose body is that long."""
    docstring = ['    """Do it.', *["    more"] * (num_docstring_lines - 2), '    """'] if num_docstring_lines else []
    return "\n".join(["def work():", *docstring, *["    step()"] * num_statements]) + "\n"


@given(num_statements=st.integers(1, 90), num_docstring_lines=st.sampled_from([0, 2, 3, 40]))
def test_count_lines_leaves_docstring_out(num_statements: int, num_docstring_lines: int) -> None:
    function = ast.parse(function_of(num_statements, num_docstring_lines)).body[0]
    assert isinstance(function, ast.FunctionDef)

    assert count_lines(function) == num_statements + 1


@pytest.mark.parametrize(
    ("content", "offence"),
    [
        ("x = 1\n" * (MAX_MODULE_LINES + 1), "1: module has 401 lines, at most 400"),
        ("\n" + function_of(MAX_FUNCTION_LINES), "2: function work has 61 lines, at most 60"),
        ("class Outer:\n    def handle(self): ...\n", "2: handle says nothing"),
        ("class PluginManager: ...\n", "1: PluginManager says nothing"),
        ("async def misc_things(): ...\n", "1: misc_things says nothing"),
    ],
)
def test_check_module_names_offence_and_line(tmp_path: Path, content: str, offence: str) -> None:
    path = tmp_path / "encoder.py"
    path.write_text(content, encoding="utf-8")

    (found,) = check_module(path)

    assert found.startswith(f"{path}:{offence}")


def test_check_module_is_content_when_at_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "encoder.py"
    function = function_of(MAX_FUNCTION_LINES - 1)
    path.write_text(function + "x = 1\n" * (MAX_MODULE_LINES - MAX_FUNCTION_LINES), encoding="utf-8")

    assert check_module(path) == []


@pytest.mark.parametrize("file", ["utils.py", "data_helpers.py", "info.py", "common/x.py", "data/x.py"])
def test_check_module_refuses_name_that_says_nothing(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("", encoding="utf-8")

    assert len(check_module(path)) == 1


@pytest.mark.parametrize("file", ["edgekit/data/folder.py", "edgekit/cli/data.py"])
def test_check_module_allows_the_package_of_datasets_and_its_command(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text("", encoding="utf-8")

    assert check_module(path) == []


@pytest.mark.parametrize("name", ["information", "commonality", "data_inputs", "handle_signal", "Database", "ONNXFile"])
def test_is_empty_name_spares_names_that_mean_something(name: str) -> None:
    assert not is_empty_name(name)


def test_main_prints_offenders_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.py").write_text("x = 1\n", encoding="utf-8")
    assert main([str(tmp_path)]) == 0

    (tmp_path / "utils.py").write_text("x = 1\n", encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    assert "utils.py:1: utils says nothing" in capsys.readouterr().out


def test_main_refuses_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "absent")])
