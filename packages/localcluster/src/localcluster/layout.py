"""Where the files of one cluster lie in its directory."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The paths of a cluster; all but `lock` belong to it alone and go with it."""

    directory: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def programs(self) -> Path:
        """Links named as the programs they are, so that `ps` tells them apart."""
        return self.directory / "bin"

    @property
    def kubectl(self) -> Path:
        """A kubectl of the cluster's own version."""
        return self.programs / "kubectl"

    @property
    def logs(self) -> Path:
        """One log file per process, and audit.jsonl."""
        return self.directory / "logs"

    @property
    def run(self) -> Path:
        """Everything the processes read and write: keys, configuration, data."""
        return self.directory / "run"

    @property
    def keys(self) -> Path:
        """Keys and certificates."""
        return self.run / "keys"

    @property
    def state(self) -> Path:
        """The record of what runs, and of what `stop` has to undo."""
        return self.directory / "state.json"

    @property
    def lock(self) -> Path:
        """Held while the cluster is started or stopped."""
        return self.directory / "lock"

    def log(self, name: str) -> Path:
        """The log file of the process of that name."""
        return self.logs / f"{name}.log"

    def reset(self) -> None:
        """Delete the cluster's files but for the lock."""
        for path in (self.run, self.programs, self.logs):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.kubeconfig, self.state):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the cluster's files, and the directory itself unless somebody keeps other files there."""
        self.reset()
        self.lock.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()
