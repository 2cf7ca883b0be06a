"""Every condition reason is produced by a test on a real API server: the `produces` marks are compared with the table."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.recorder import KNOWN

TESTS = Path(__file__).parent.parent
ON_A_CLUSTER = ("component", "cluster", "e2e")


def marks(path: Path) -> Iterator[str]:
    """Yield the reasons of every `pytest.mark.produces(…)` in a file; the arguments must be literals."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.produces":
            yield from (ast.literal_eval(argument) for argument in node.args)


def produced() -> frozenset[str]:
    """Return the reasons that tests on a cluster declare; such a test fails if it does not see its reason."""
    return frozenset(name for part in ON_A_CLUSTER for path in (TESTS / part).glob("test_*.py") for name in marks(path))


def test_every_reason_is_produced_by_a_test_on_a_real_api_server() -> None:
    """Mark a test in tests/component with @pytest.mark.produces("Type/Reason"), or remove the reason from the table."""
    assert sorted(KNOWN - produced()) == [], "reasons of api/reasons.py that no test is marked to produce"


def test_no_test_declares_a_reason_that_does_not_exist() -> None:
    assert sorted(produced() - KNOWN) == [], "marked, but not in api/reasons.py"
