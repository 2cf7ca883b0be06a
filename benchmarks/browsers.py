"""What the file browsers take, as the operator starts them: memory at rest, with large photos, and with many files.

    PYTHONPATH=tests python benchmarks/browsers.py [--files 300000] [--quantum PROGRAM] [--copyparty PROGRAM]

Runs each program with the options and the variables of its pod, in directories of its own and without a limit of memory. File Browser
and Dufs are built as for the end-to-end tests. Quantum and Copyparty run if their programs are given; Copyparty with the options that
this file has. Prints one JSON object: memory in MiB (the highest so far), times in milliseconds.
"""

import argparse
import http.client
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from localcluster import builds
from localcluster.addresses import free_port
from support.builders import class_object, storage_object
from support.photos import photo
from userstorage_operator import browsers
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass

_USER = {"X-Forwarded-User": "alice"}
_OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}
_PHOTOS = 4
_VIEWS = {
    "FileBrowser": ("api/preview/big/{}", "api/resources/"),
    "Dufs": ("{}", ""),
    "Quantum": ("api/resources/download?source=files&file=/{}", "api/resources?source=files&path=/"),
    "Copyparty": ("{}", "?ls"),
}
"""Flavor -> what its page requests for a photo, and for the files of the root."""


class Pod:
    """A program that runs as in a pod; the directories of the pod are in `directory`."""

    def __init__(self, flavor: str, program: Path, directory: Path) -> None:
        self.flavor, self._directory, self._port = flavor, directory, free_port()
        self._headers: Mapping[str, str] = _USER
        for name in ("srv", "database", "tmp"):
            (directory / name).mkdir()
        if flavor == "Copyparty":
            init, command, environment, self.probe = [], [str(program), *self._copyparty_options()], {}, "/"
        else:
            init, command, environment, self.probe = self._rendered(program)
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **environment}
        if init:
            subprocess.run(init, env=environment, check=True, stdout=subprocess.DEVNULL)
        start = time.monotonic()
        self._log = (directory / "log").open("w")
        self._process = subprocess.Popen(command, env=environment, cwd=directory, stdout=self._log, stderr=subprocess.STDOUT)
        while True:
            with suppress(OSError, http.client.HTTPException):
                if self.get(self.probe if flavor in ("Dufs", "Copyparty") else "/health")[0] == 200:
                    break
            if self._process.poll() is not None or time.monotonic() - start > 120:
                raise SystemExit(f"{flavor} does not start: {(directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        self.started_in = time.monotonic() - start
        if flavor == "FileBrowser":
            self._headers = {"X-Auth": self.request("POST", "/api/login")[1].decode()}

    def _rendered(self, program: Path) -> tuple[list[str], list[str], dict[str, str], str]:
        auth = _OPEN if self.flavor == "Dufs" else {}
        raw = class_object(browser={"flavor": self.flavor, "port": self._port}, auth=auth)
        pod = browsers.render(UserStorage.parse(storage_object()), UserStorageClass.parse(raw))
        own = {"/srv": "srv", "/database": "database", "/tmp": "tmp"}  # noqa: S108  # in the pod

        def here(part: str) -> str:
            for path, name in own.items():
                if str(self._directory) not in part:
                    part = part.replace(path, f"{self._directory}/{name}")
            return part.replace(pod.command[0], str(program))

        variables = {variable["name"]: here(variable["value"]) for variable in pod.env}
        probe = pod.readiness_probe
        check = probe["httpGet"]["path"] if "httpGet" in probe else here(probe["exec"]["command"][-1])
        return [here(part) for part in pod.init_command], [here(part) for part in (*pod.command, *pod.args)], variables, check

    def _copyparty_options(self) -> list[str]:
        files, state = self._directory / "srv", self._directory / "tmp"
        return ["-i=127.0.0.1", f"-p={self._port}", f"-v={files}::rwmd", "--no-thumb", f"--hist={state}", "-nih", "--no-crt"]

    def request(self, method: str, path: str) -> tuple[int, bytes]:
        """Send a request, and return the status and the body of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        try:
            connection.request(method, path, headers=dict(self._headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """Send a GET, and return the status and the body of the response."""
        return self.request("GET", path)

    def run_probe(self) -> bool:
        """Run the readiness probe once, and return whether it succeeds."""
        if self.probe.startswith("/"):
            return self.get(self.probe)[0] == 200
        return subprocess.run(["/bin/sh", "-c", self.probe], stderr=subprocess.DEVNULL, check=False).returncode == 0

    def memory(self) -> int:
        """Return the highest resident memory of the program so far, in MiB."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
        raise SystemExit(f"{self.flavor} has ended")

    def stop(self) -> None:
        """Kill the program."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def measure(flavor: str, program: Path, files: int) -> dict[str, Any]:
    """Return what one program takes."""
    view, listing = _VIEWS[flavor]
    found: dict[str, Any] = {"program_mib": program.stat().st_size >> 20}
    with tempfile.TemporaryDirectory() as directory:
        volume = Path(directory, "srv")
        pod = Pod(flavor, program, Path(directory))
        try:
            found |= {"start_ms": _ms(pod.started_in), "rest_mib": pod.memory()}
            pod.get(f"/{listing}")  # creates the user
            names = [f"photo-{number}.jpg" for number in range(_PHOTOS)]
            for name in names:
                (volume / name).write_bytes(photo(8064, 6048, orientation=6))
            time.sleep(3)  # Quantum serves what it has indexed
            with ThreadPoolExecutor(_PHOTOS) as pool:
                codes = [code for code, _ in pool.map(pod.get, (f"/{view.format(name)}" for name in names))]
            found |= {"photo_codes": codes, "photos_mib": pod.memory()}
        finally:
            pod.stop()
    with tempfile.TemporaryDirectory() as directory:
        pod = Pod(flavor, program, Path(directory))
        try:
            found["probe_ms"] = _timed(pod.run_probe)
            for number in range(files):
                os.close(os.open(f"{directory}/srv/file-{number}", os.O_CREAT | os.O_WRONLY))
            found["probe_with_files_ms"] = _timed(pod.run_probe)
            found["list_ms"] = _timed(lambda: pod.get(f"/{listing}")[0] == 200)
            found["list_mib"] = pod.memory()
        finally:
            pod.stop()
    return found


def _timed(check: Any) -> str:
    start = time.monotonic()
    done = check()
    return f"{_ms(time.monotonic() - start)}{'' if done else ' (failed)'}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def main() -> None:
    """Measure each program and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--quantum", type=Path)
    parser.add_argument("--copyparty", type=Path)
    given = parser.parse_args()
    programs = {
        "FileBrowser": builds.build_go(builds.FILEBROWSER, lambda _: None),
        "Dufs": builds.build_dufs(lambda _: None),
        "Quantum": given.quantum,
        "Copyparty": given.copyparty,
    }
    results = {name: measure(name, program, given.files) for name, program in programs.items() if program is not None}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "machine": platform.machine()}
    outside = [f"--{name}={program.name}" for name in ("quantum", "copyparty") if (program := getattr(given, name)) is not None]
    command = shlex.join(["python", "benchmarks/browsers.py", f"--files={given.files}", *outside])
    sys.stdout.write(
        json.dumps({"commit": commit, "command": command, "machine": machine, "results": results}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
