"""`python -m prose` finds the words that STYLE.md rules out, wherever they are written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLEAN = {
    "operator/clean.py": '"""Report what was found."""\n\n\ndef run() -> str:\n    """Return the reason."""\n    return "no such object"\n',
    "tests/test_clean.py": "def test_unreadable_spec_is_reported() -> None:\n    assert 'was told' # strings of a test are data\n",
    "docs/clean.md": "# Title\n\nA sentence with `told` in code.\n\n```\nnobody\n```\n",
    "deploy/clean.yaml": "# Repair the claim.\nkind: List\n",
}


def git(root: Path, *arguments: str) -> None:
    name = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *name, *arguments], check=True, capture_output=True)


def commit(root: Path, subject: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--allow-empty", "--message", subject)


def check(root: Path, *files: Path) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "prose", f"--root={root}", *(str(file) for file in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    git(root, "init")
    commit(root, "anew: commits from before STYLE.md are not checked")
    (root / "STYLE.md").write_text("Not told, not anew.\n")
    for name, text in CLEAN.items():
        (root / name).parent.mkdir()
        (root / name).write_text(text)
    commit(root, "Add the style")
    return root


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "repository")


def test_clean_repository_passes(repository: Path) -> None:
    commit(repository, "Keep the subject short")
    assert check(repository) == (0, [])


@pytest.mark.parametrize(
    ("name", "text", "line", "word"),
    [
        ("operator/x.py", '"""Module."""\n\n\ndef f() -> None:\n    """Report to whoever asks."""\n', 5, "whoever"),
        ("operator/x.py", 'MESSAGE = (\n    "the claim was told about"\n)\n', 2, "told"),
        ("operator/x.py", 'def f(name: str) -> str:\n    return f"nobody has {name}"\n', 2, "nobody"),
        ("operator/x.py", "X = 1\nY = 2  # made anew\n", 2, "anew"),
        ("operator/x.py", 'def f() -> int:\n    """The number."""\n    return 1\n', 1, "starts with a verb"),
        ("tests/unit/test_x.py", "X = 1\n\n\ndef test_it_is_told() -> None:\n    pass\n", 4, "told"),
        ("tests/unit/test_x.py", "# Nobody asks.\n", 1, "Nobody"),
        ("docs/x.md", "# Title\n\nIt lets go of the lease.\n", 3, "lets go"),
        ("deploy/x.yaml", "kind: List\nsummary: somebody has to act\n", 2, "somebody"),
        ("scripts/x.sh", "#!/bin/sh\n\n# Begin here.\n", 3, "Begin"),
        ("Makefile", "all: ## Mend all\n", 1, "Mend"),
    ],
)
def test_forbidden_word_is_found(repository: Path, name: str, text: str, line: int, word: str) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text(text)
    code, found = check(repository)
    assert code == 1
    assert len(found) == 1
    assert found[0].startswith(f"{name}:{line}: ")
    assert word in found[0]


def test_only_named_files_are_checked(repository: Path) -> None:
    (repository / "x.md").write_text("anew\n")
    assert check(repository, repository / "docs/clean.md") == (0, [])
    assert check(repository, repository / "x.md") == (1, ["x.md:1: 'anew': again"])


@pytest.mark.parametrize(
    ("subject", "complaint"),
    [
        ("Make the claim anew", "'anew'"),
        ("Repair the claim and " + "all else " * 7 + "too", "at most 72"),
        ("Repaired the claim", "imperative"),
        ("repair the claim", "imperative"),
    ],
)
def test_commit_subject_is_checked(repository: Path, subject: str, complaint: str) -> None:
    commit(repository, subject)
    head = subprocess.run(
        ["git", "-C", str(repository), "log", "-1", "--format=%h"], capture_output=True, text=True, check=True
    )
    code, found = check(repository)
    assert code == 1
    assert len(found) == 1
    assert found[0].startswith(f"commit {head.stdout.strip()}: ")
    assert complaint in found[0]
