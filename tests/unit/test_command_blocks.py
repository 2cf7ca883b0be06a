"""What counts as commands of a document, and as a difference from what the document shows."""

from pathlib import Path

import pytest

from support.command_blocks import differences, read

DOCUMENT = """
```sh
first
```

```text
output of first
```

<!-- not run: it needs a registry -->
```sh
second
```

Words.

```text
no output
```

<!-- needs a Docker engine -->
```sh
third
```
"""


def test_blocks_have_their_output_and_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(DOCUMENT)
    document = read(page)
    first, second, third = document.commands
    assert (first.commands, first.output, first.not_run, first.needs_docker) == ("first\n", ["output of first"], "", False)
    assert (second.output, second.not_run, second.needs_docker) == (None, "it needs a registry", False)
    assert (third.not_run, third.needs_docker) == ("", True)
    assert document.others == [("text", "no output\n")]


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        (["a  b"], ["a b", ""], True),
        (["a … c"], ["a b c"], True),
        (["a.c"], ["abc"], False),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
    ],
)
def test_output_is_compared_line_by_line(shown: list[str], printed: list[str], equal: bool) -> None:
    assert (differences(shown, printed) == []) is equal
