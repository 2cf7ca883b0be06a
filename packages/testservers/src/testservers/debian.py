"""Programs of Debian packages that are not installed, because their installation starts a server."""

import shutil
from pathlib import Path

from localcluster import cache, packages
from localcluster.errors import ClusterError
from localcluster.progress import Report


def program(name: str, package: str, directory: str, report: Report) -> Path:
    """Return the path of the executable `name`. If PATH does not have it, the Debian package, which has it in `directory`, is
    downloaded, once. Raises ClusterError if that fails.
    """
    if (found := shutil.which(name)) is not None:
        return Path(found)
    report(f"looking for {name} in the Debian package {package}")
    try:
        files = cache.entry(f"debian-{package}", [package], lambda target: packages.unpack(package, target))
    except ClusterError as error:
        raise ClusterError(f"no {name} in the path, and it cannot be downloaded: {error.args[0]}") from error
    return files / directory / name
