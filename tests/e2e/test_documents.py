"""Every command of the README and the tutorial runs as it is written, and prints what the document shows."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, chosen_cluster
from localcluster.addresses import free_port
from localcluster.kind import docker_answers
from support.cluster_access import can_create_namespaces
from support.command_blocks import Block, differences, read

DOCUMENTS = ("README.md", "docs/tutorial.md")
MARKER = "=== block of line "
LOG_TAIL = 4000
"""Characters of the output that a failure shows."""


class Shell:
    """Runs the blocks of one document in one shell, in the directory of the repository, with a demo of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cluster = directory / "cluster"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
            "CLUSTER_DIR": str(self._cluster),
            "KUBECONFIG": str(directory / "kubeconfig"),
        }
        self._replaced = {
            "$PWD/.cluster": str(self._cluster),
            "/tmp/": f"{directory}/",  # noqa: S108  # as the document has it
            "8888": str(free_port()),
        }

    def check(self, blocks: list[Block]) -> None:
        """Run the blocks. Fails the test if one of them fails, or prints anything else than the document shows."""
        printed = self._run(blocks)
        shown = {block.line: block.output for block in blocks if block.output is not None}
        assert {line: differences(output, printed[line]) for line, output in shown.items()} == {line: [] for line in shown}

    def _run(self, blocks: list[Block]) -> dict[int, list[str]]:
        """Run the blocks and return the lines that each printed, by its line in the document."""
        script = "".join(f"echo {shlex.quote(MARKER + str(block.line))}\n{self._replace(block.commands)}" for block in blocks)
        output, errors = self._directory / "output", self._directory / "errors"
        file = self._directory / "commands"
        file.write_text(script)
        with output.open("w") as out, errors.open("w") as err:
            # A session of its own, to end what the document leaves in the background.
            shell = subprocess.Popen(
                ["bash", "-e", file],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                shell.wait()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGTERM)
        printed = output.read_text()
        assert shell.returncode == 0, f"{printed[-LOG_TAIL:]}\n{errors.read_text()[-LOG_TAIL:]}"
        parts = re.split(rf"^{MARKER}(\d+)\n", printed, flags=re.MULTILINE)
        return {int(line): text.splitlines() for line, text in zip(parts[1::2], parts[2::2], strict=True)}

    def stop(self) -> None:
        """Stop the demo, if the document has left one."""
        subprocess.run(["make", "--silent", "demo-down"], cwd=ROOT, env=self._environment, check=True, capture_output=True)

    def _replace(self, commands: str) -> str:
        pattern = "|".join(re.escape(text) for text in self._replaced)
        return re.sub(pattern, lambda found: self._replaced[found[0]], commands)


@pytest.fixture
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    """A shell with a demo of its own. Skips the test if the demo cannot run here."""
    if chosen_cluster(request.config) == "existing":
        pytest.skip("the documents start clusters of their own (--cluster=local, as root, or kind)")
    if chosen_cluster(request.config) == "local" and not can_create_namespaces():
        pytest.skip("the demo of the documents needs root")
    with tempfile.TemporaryDirectory(prefix="us-") as directory:  # tmp_path is too long for the sockets of kubelet
        shell = Shell(Path(directory))
        yield shell
        shell.stop()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_print_what_the_document_shows(shell: Shell, name: str) -> None:
    shell.check([block for block in read(ROOT / name).commands if not block.not_run and not block.needs_docker])


def test_commands_for_kind_of_the_readme_succeed(shell: Shell) -> None:
    if not docker_answers():
        pytest.skip("the commands of README.md for kind need a Docker engine")
    shell.check([block for block in read(ROOT / "README.md").commands if block.needs_docker])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_shows_objects_of_the_examples(name: str) -> None:
    examples = [list(yaml.safe_load_all(path.read_text())) for path in (ROOT / "examples").glob("*.yaml")]
    # A block without a language is a drawing.
    for language, text in (block for block in read(ROOT / name).others if block[0]):
        assert language == "yaml", text
        assert list(yaml.safe_load_all(text)) in examples
