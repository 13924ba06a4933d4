from __future__ import annotations

import re
from pathlib import Path

import pytest

from readme_blocks import main, read_blocks

PAGE = """\
# A page

<!-- run: ci -->
```console
$ make demo
made
$ make \\
    test
```

<!-- run: no (needs a board) -->
```console
$ edgekit flash pi@kitchen.local
```

<!-- run: slow -->
```python
import edgekit
```

```toml
not = "executed"
```
"""


def test_read_blocks_gives_language_marker_and_line() -> None:
    blocks = read_blocks(PAGE)

    assert [(block.line, block.language, block.run) for block in blocks] == [
        (4, "console", "ci"),
        (12, "console", "no"),
        (17, "python", "slow"),
    ]
    assert blocks[2].text == "import edgekit\n"


def test_commands_are_prompts_only_with_continued_lines_joined() -> None:
    assert read_blocks(PAGE)[0].commands == ["make demo", "make     test"]


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("", "line 1: no <!-- run: fast | slow | ci | no -->"),
        ("<!-- run: sometimes -->\n", "line 2: no <!-- run:"),
        ("<!-- run: fast -->\n\n", "line 3: no <!-- run:"),
        ("<!-- run: no -->\n", "lacks the reason"),
    ],
)
def test_read_blocks_refuses_block_without_proper_marker(marker: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read_blocks(f"{marker}```console\n$ true\n```\n")


def test_main_prints_commands_of_the_asked_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")

    assert main(["--run", "ci", str(page)]) == 0
    assert capsys.readouterr().out == "make demo\nmake     test\n"
