"""The paths of one cluster's files in its directory."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The paths of a cluster. All but `lock` are deleted with it."""

    directory: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def programs(self) -> Path:
        """The folder of symbolic links by which the programs are called, so that `ps` shows their names."""
        return self.directory / "bin"

    @property
    def kubectl(self) -> Path:
        """A kubectl of the same version as the cluster."""
        return self.programs / "kubectl"

    @property
    def logs(self) -> Path:
        """The folder with one log file per process, and with audit.jsonl."""
        return self.directory / "logs"

    @property
    def run(self) -> Path:
        """The folder of files that the processes read and write: keys, configuration, data."""
        return self.directory / "run"

    @property
    def keys(self) -> Path:
        """The folder of keys and certificates."""
        return self.run / "keys"

    @property
    def state(self) -> Path:
        """The record of the running processes and of the changes that `stop` has to undo."""
        return self.directory / "state.json"

    @property
    def lock(self) -> Path:
        """The lock file, held while the cluster is started or stopped."""
        return self.directory / "lock"

    def log(self, name: str) -> Path:
        """Return the log file of the process of that name."""
        return self.logs / f"{name}.log"

    def reset(self) -> None:
        """Delete the cluster's files except for the lock."""
        for path in (self.run, self.programs, self.logs):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.kubeconfig, self.state):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the cluster's files, and the directory if it is empty then."""
        self.reset()
        self.lock.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()
