"""Builds the programs of a cluster from Go modules and a Rust crate. The per-user cache keeps the executables."""

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster import cache
from localcluster.errors import ClusterError
from localcluster.progress import MORE, Report

MODULES = Path(__file__).parent / "go"
DUFS_VERSION = "0.47.0"

CompiledLine = Callable[[str], bool]
"""A function that returns whether a line of compiler output means that one more package was compiled."""


@dataclass(frozen=True)
class GoProgram:
    """A program built from the Go package `package`. The file `<modules>/<name>/go.mod` pins its version."""

    name: str
    package: str
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    modules: Path = MODULES

    @property
    def module(self) -> Path:
        """The directory of the go.mod that pins the version of this program."""
        return self.modules / self.name

    def command(self, output: Path) -> list[str]:
        """Return the `go build` command that writes the executable to `output`."""
        # Without -trimpath, the build shares the Go build cache with other builds.
        stamps = [f"-X {variable}={value}" for variable, value in self.variables.items()]
        return ["go", "build", "-v", "-ldflags", " ".join(["-s -w", *stamps]), "-o", str(output), self.package]


def pinned_version(module: str, required: str) -> str:
    """Return the version, such as v1.36.3, at which `go/<module>/go.mod` requires the Go module `required`.

    Raises ClusterError if that go.mod does not require it.
    """
    text = (MODULES / module / "go.mod").read_text()
    found = re.search(rf"^\s*{re.escape(required)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise ClusterError(f"go/{module}/go.mod does not require {required}")
    return found.group(1)


OLDEST = "kube-1.32"
"""The module with the control plane of the oldest Kubernetes, without etcd and kubectl."""


def kube_program(module: str = "kube") -> GoProgram:
    """Return what to build for etcd, Kubernetes and kubectl, which are one executable; or for the parts in another module.

    The Kubernetes version is linked into the executable: without it, `kubectl version` fails.
    """
    version = pinned_version(module, "k8s.io/kubernetes")
    major, minor, _patch = version.removeprefix("v").split(".", 2)
    stamp = "k8s.io/component-base/version"
    return GoProgram(
        module,
        ".",
        {f"{stamp}.gitVersion": version, f"{stamp}.gitMajor": major, f"{stamp}.gitMinor": minor},
    )


KWOK = GoProgram("kwok", "sigs.k8s.io/kwok/cmd/kwok")
FILEBROWSER = GoProgram(
    # Linked statically, because the image has no C library.
    "filebrowser",
    "github.com/filebrowser/filebrowser/v2",
    environment={"CGO_ENABLED": "0"},
)


def build_go(program: GoProgram, report: Report) -> Path:
    """Return the path of the program's executable. Build it unless the per-user cache has it.

    Raises ClusterError if Go is missing or the build fails.
    """

    def build(directory: Path) -> None:
        if shutil.which("go") is None:
            raise ClusterError(f"Go is needed to build {program.name}: install Go 1.26 or newer (https://go.dev/dl)")
        environment = {**os.environ, **program.environment}
        _run_build(
            program.name,
            program.command(directory / program.name),
            program.module,
            environment,
            compiled=lambda line: "/" in line and not line.startswith("go: "),
            total=_package_count(program, environment),
            report=report,
        )

    inputs: list[str | bytes | Path] = [
        *sorted(path for path in program.module.iterdir() if path.suffix in {".go", ".mod", ".sum"}),
        *program.command(Path(program.name)),
        str(dict(program.environment)),
        platform.machine(),
    ]
    return cache.entry(program.name, inputs, build) / program.name


def build_dufs(report: Report) -> Path:
    """Return the path of the statically linked executable of Dufs. Build it unless the per-user cache has it.

    Raises ClusterError if Cargo is missing or the build fails.
    """
    target = f"{platform.machine()}-unknown-linux-gnu"
    command = ["cargo", "install", "dufs", "--version", DUFS_VERSION, "--locked", "--target", target, "--root"]
    flags = "-C target-feature=+crt-static"

    def build(directory: Path) -> None:
        if shutil.which("cargo") is None:
            raise ClusterError("Cargo is needed to build dufs: install Rust (https://rustup.rs)")
        _run_build(
            "dufs",
            [*command, str(directory)],
            directory,
            {**os.environ, "RUSTFLAGS": flags},
            compiled=lambda line: line.lstrip().startswith("Compiling "),
            total=None,
            report=report,
        )

    return cache.entry("dufs", [*command, flags], build) / "bin" / "dufs"


def _package_count(program: GoProgram, environment: Mapping[str, str]) -> int | None:
    """Return the number of Go packages to compile for the program; None if `go list` fails."""
    # The build fails for the same reason, and reports it.
    command = ["go", "list", "-deps", program.package]
    listed = subprocess.run(command, cwd=program.module, env=environment, capture_output=True, text=True, check=False)
    return len(listed.stdout.split()) or None


def _run_build(
    name: str,
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    *,
    compiled: CompiledLine,
    total: int | None,
    report: Report,
) -> None:
    """Run the build command `command` and report its progress every second.

    The compiler's output goes to `<name>.log` in the per-user cache. Raises ClusterError if the command fails.
    """
    log = cache.root() / f"{name}.log"
    start = time.monotonic()
    with log.open("w+b") as output:
        build = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while build.poll() is None:
                time.sleep(1)
                lines = log.read_text(errors="replace").splitlines()
                report(_progress(name, lines, compiled, total, time.monotonic() - start))
        finally:
            if build.poll() is None:
                build.kill()
                build.wait()
    if build.returncode != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise ClusterError(f"building {name} failed: {lines[-1] if lines else 'no output'} (all of it in {log})")
    report(f"built {name} in {time.monotonic() - start:.0f} s")


def _progress(name: str, lines: Sequence[str], compiled: CompiledLine, total: int | None, seconds: float) -> str:
    """Return the progress of a running build as one line: packages compiled so far, and seconds since the start."""
    done = sum(1 for line in lines if compiled(line))
    if lines and "ownload" in lines[-1]:
        step = lines[-1].strip()
    elif total is None:
        step = f"{done} packages"
    else:
        # Packages that the Go cache has are not printed: the total is an upper limit.
        step = f"{done} of at most {total} packages"
    return f"building {name}: {step}, {seconds:.0f} s{MORE}"
