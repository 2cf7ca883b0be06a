"""The files of a container image that runs a Python program: this machine's Python, its libraries and packages."""

import compileall
import importlib.metadata
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from localcluster import cache
from localcluster.errors import ClusterError

UNUSED = (
    *(
        "__pycache__",
        "config-*",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
    ),
    *("tkinter", "turtledemo", "venv", "_curses*", "_dbm*", "_gdbm*", "_test*", "_tkinter*", "nis.*", "readline.*", "xx*"),
)
"""The parts of the standard library that no server needs."""


def files(packages: Iterable[str]) -> dict[str, Path]:
    """Return the files of the image by their path in it: the interpreter with the installed distributions `packages`.

    Their modules are compiled, since a container with a read-only root would compile them at each start. The interpreter is at
    `program()`. Raises ClusterError if a distribution is not installed.
    """
    root = _library(tuple(packages))
    interpreter = _interpreter()
    library = sysconfig.get_path("stdlib")
    found = {f"{library}/{path.relative_to(root)}": path for path in sorted(root.rglob("*")) if path.is_file()}
    extensions = [path for path in found.values() if ".so" in path.suffixes]
    found |= {str(path): path for path in _shared_libraries([interpreter, *extensions])}
    return found | {program(): interpreter}


def program() -> str:
    """Return the path of the interpreter in the image. It finds its library by this path, so it is the one of this machine."""
    return str(_interpreter())


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _library(packages: tuple[str, ...]) -> Path:
    """Return a directory with the standard library and `packages`, compiled; from the per-user cache unless it is new."""
    versions = [f"{name}=={_distribution(name).version}" for name in packages]

    def build(directory: Path) -> None:
        library = directory / "lib"
        shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=shutil.ignore_patterns(*UNUSED))
        for name in packages:
            for path in _package_files(name):
                target = library / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(_distribution(name).locate_file(path)), target)
        # By hash and unchecked: the image has no times of files.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(library, quiet=2, workers=os.cpu_count() or 1, invalidation_mode=mode)

    return cache.entry("python", [sys.version, str(_interpreter()), *UNUSED, *versions, Path(__file__)], build) / "lib"


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise ClusterError(f"the Python package {name} is not installed: run `make install`") from error


def _package_files(name: str) -> Iterator[str]:
    """Yield the files of an installed distribution, relative to its directory, without scripts and compiled files."""
    for path in _distribution(name).files or ():
        if ".." not in path.parts and "__pycache__" not in path.parts:
            yield str(path)


def _shared_libraries(programs: Iterable[Path]) -> set[Path]:
    """Return the libraries that the dynamic loader of this machine finds for `programs`, with the loader itself."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", listed, re.MULTILINE)}
