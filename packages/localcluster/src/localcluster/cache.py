"""The per-user cache of built programs and images.

A cache entry is a directory `<name>-<digest>`, with the digest of everything that the entry is built from. An entry appears
whole or not at all, and only one process at a time builds it. Entries are never removed. The whole cache may be deleted at any
time.
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
    """Return the cache directory of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "userstorage-localcluster"


def digest(inputs: Iterable[str | bytes | Path]) -> str:
    """Return a digest of the inputs and their order, as sixteen hex digits.

    A Path among the inputs stands for the name and the content of that file.
    """
    total = hashlib.sha256()
    for item in inputs:
        if isinstance(item, Path):
            parts = [item.name.encode(), item.read_bytes()]
        else:
            parts = [item.encode() if isinstance(item, str) else item]
        for part in parts:
            # The length first, so that two different lists of inputs are never the same bytes.
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def entry(name: str, inputs: Iterable[str | bytes | Path], build: Callable[[Path], None]) -> Path:
    """Return the directory of the cache entry with that name and those inputs.

    If the entry does not exist, `build` is called with an empty directory, which it fills and which becomes the entry. An error
    that `build` raises passes through, and no entry remains.
    """
    path = root() / f"{name}-{digest(inputs)}"
    if path.is_dir():
        return path
    root().mkdir(parents=True, exist_ok=True)
    with locked(root() / f"{name}.lock"):
        if path.is_dir():  # another process built it while this one waited
            return path
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root()))
        try:
            build(unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` while the `with` block runs. Wait while another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_open_file(path, descriptor):
                continue  # its holder deleted the file: other processes would lock a new one
            yield
            return
        finally:
            os.close(descriptor)


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
