"""What was built once is kept per user, under a name that changes with everything it is made from.

An entry is a directory `<name>-<digest>`. It appears whole or not at all, and one builder at a time makes it.
Entries are never removed here: the whole cache may be deleted at any time, and is then built again.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """The cache directory of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "userstorage-localcluster"


def digest(inputs: Iterable[str | bytes | Path]) -> str:
    """Sixteen hex digits that change when any input, their order, or the content or name of a named file changes."""
    total = hashlib.sha256()
    for item in inputs:
        if isinstance(item, Path):
            parts = [item.name.encode(), item.read_bytes()]
        else:
            parts = [item.encode() if isinstance(item, str) else item]
        for part in parts:
            # The length first, so that no two lists of inputs read as the same bytes.
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def entry(name: str, inputs: Iterable[str | bytes | Path], make: Callable[[Path], None]) -> Path:
    """The entry of that name made from these inputs; `make` fills an empty directory where there is none yet.

    Errors of `make` pass through and leave no entry.
    """
    path = root() / f"{name}-{digest(inputs)}"
    if path.is_dir():
        return path
    root().mkdir(parents=True, exist_ok=True)
    with locked(root() / f"{name}.lock"):
        if path.is_dir():  # another process made it while this one waited
            return path
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root()))
        try:
            make(unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file for the length of a `with` block; waits for as long as another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_open_file(path, descriptor):
                continue  # its holder deleted the file: a lock on it keeps nobody out any more
            yield
            return
        finally:
            os.close(descriptor)


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
