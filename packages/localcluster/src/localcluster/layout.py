"""The paths of the files of one cluster, all in one directory."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The paths of the files of a cluster, all in `directory`."""

    directory: Path

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the cluster's administrator."""
        return self.directory / "kubeconfig"

    @property
    def programs(self) -> Path:
        """The folder with one symbolic link per program. Programs are called by these links, so that `ps` shows their names."""
        return self.directory / "bin"

    @property
    def kubectl(self) -> Path:
        """A kubectl of the same version as the cluster."""
        return self.programs / "kubectl"

    @property
    def logs(self) -> Path:
        """The folder with one log file per process, and with the audit log, audit.jsonl."""
        return self.directory / "logs"

    @property
    def run(self) -> Path:
        """The folder of files that the processes read and write: keys, configuration, data."""
        return self.directory / "run"

    @property
    def keys(self) -> Path:
        """The folder of the cluster's keys and certificates."""
        return self.run / "keys"

    @property
    def state(self) -> Path:
        """The file with the running processes and the changes to this machine that `stop` has to undo."""
        return self.directory / "state.json"

    @property
    def lock(self) -> Path:
        """The lock file, held while the cluster is started or stopped."""
        return self.directory / "lock"

    def log(self, name: str) -> Path:
        """Return the log file of the process of that name."""
        return self.logs / f"{name}.log"

    def reset(self) -> None:
        """Delete the files of the cluster except for the lock file. The cluster must be stopped."""
        for path in (self.run, self.programs, self.logs):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.kubeconfig, self.state):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the files of the cluster and the lock file, and then the directory if it is empty."""
        self.reset()
        self.lock.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()
