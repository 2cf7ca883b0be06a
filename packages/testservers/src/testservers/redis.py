"""A real redis-server of one's own, on loopback: beside a cluster, or as many as a test wants."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from localcluster import nodeimages, packages
from localcluster.addresses import free_port
from localcluster.background import Background
from localcluster.certificates import Authority
from localcluster.errors import ClusterError
from localcluster.images import Image
from localcluster.packages import Package
from localcluster.progress import Report, silent

# Not redis-server, which would start a server of its own: the same program is in here under another name.
PACKAGE = Package("redis-tools", "redis-check-rdb", "has Redis: server, sentinel and command line")

ADDRESS = "127.0.0.1"
SENTINEL_SERVICE = "main"
_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0


def ensure_installed(report: Report) -> None:
    """Install Redis unless it is there. ClusterError if it cannot be installed."""
    packages.ensure_package(PACKAGE, report)


def image_archive(reference: str, report: Report) -> Path:
    """Return the tar file of an image of that name with this machine's Redis and the libraries that it is linked with.

    Raises ClusterError if Redis cannot be installed.
    """
    ensure_installed(report)
    program = Path(shutil.which(PACKAGE.proof) or "")
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    libraries = {word: Path(word) for word in listed.split() if word.startswith("/")}
    image = Image(reference, ["redis-server"], {"/usr/local/bin/redis-server": program, **libraries}, user="65532:65532")
    return nodeimages.archive(image)


@dataclass(frozen=True)
class Options:
    """How a server is set up; the defaults are a bare one, which forgets everything when it ends.

    `user` is the only one let in where it is named, with `password`; else `password` is that of everybody. `tls` wants
    client certificates. `directives` are lines of redis.conf, by name.
    """

    password: str = ""
    user: str = ""
    tls: bool = False
    unix_socket: bool = False
    maxmemory: str = ""
    replica_of: "RedisServer | None" = None
    cluster: bool = False
    sentinel_of: "RedisServer | None" = None
    directives: Mapping[str, str] = field(default_factory=dict)


class RedisServer:
    """One redis-server (or sentinel) with its files in `directory`. It keeps its port from start to start."""

    def __init__(self, directory: Path, options: Options | None = None) -> None:
        self.directory = directory.absolute()
        self.options = options or Options()
        self.port = free_port(ADDRESS)
        # A sentinel has the keys of its master, whose authority it has to know.
        self.keys = (self.options.sentinel_of or self).directory / "keys"
        self._background = Background("redis", self.directory)

    @property
    def url(self) -> str:
        """Where it is, as the operator's --redis-url wants it; without user and password."""
        if self.options.unix_socket:
            return f"unix://{self.socket}"
        scheme, place = "rediss" if self.options.tls else "redis", f"{ADDRESS}:{self.port}"
        if self.options.sentinel_of:
            return f"{scheme}+sentinel://{place}/{SENTINEL_SERVICE}/0"
        if self.options.cluster:
            return f"{scheme}+cluster://{place}"
        return f"{scheme}://{place}/0"

    @property
    def socket(self) -> Path:
        """The unix socket, where there is one."""
        return self.directory / "redis.sock"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._background.log

    def start(self, report: Report = silent) -> Self:
        """Start it, installing Redis where there is none, and wait until it takes connections. ClusterError where it
        does not.
        """
        ensure_installed(report)
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.options.tls and not self.keys.exists():
            authority = Authority(self.keys)
            authority.server("redis", ["localhost"], [ADDRESS])
            authority.client("client", "operator")
        # Redis is what its program is called as.
        program = self.directory / "redis-server"
        program.unlink(missing_ok=True)
        program.symlink_to(_found(PACKAGE.proof))
        config = self.directory / "redis.conf"
        config.touch(mode=0o600)
        config.write_text("".join(f"{line}\n" for line in self._config()))
        self._background.start(
            [str(program), str(config), *(["--sentinel"] if self.options.sentinel_of else [])], context=self.url
        )
        self._wait_until(self._listens, "takes no connections")
        if self.options.cluster and "cluster_slots_assigned:16384" not in self.cli("cluster", "info"):
            self.cli("cluster", "addslotsrange", "0", "16383")
            self._wait_until(lambda: "cluster_state:ok" in self.cli("cluster", "info"), "makes no cluster of itself")
        return self

    def stop(self) -> None:
        """End it; nothing is saved."""
        self.kill()
        self._background.end()

    def kill(self) -> None:
        """SIGKILL. Nothing happens where it does not run."""
        self._background.kill()

    def pause(self) -> None:
        """SIGSTOP: connections are still taken, by the kernel, and nothing is answered."""
        self._background.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._background.signal(signal.SIGCONT)

    def cli(self, *arguments: str) -> str:
        """What redis-cli prints, without the last newline. ClusterError where the server refuses or does not answer."""
        where = ["-s", str(self.socket)] if self.options.unix_socket else ["-h", ADDRESS, "-p", str(self.port)]
        if self.options.tls:
            pair = ["--cert", str(self.keys / "client.crt"), "--key", str(self.keys / "client.key")]
            where += ["--tls", "--cacert", str(self.keys / "ca.crt"), *pair]
        if self.options.user:
            where += ["--user", self.options.user]
        environment = {**os.environ, "REDISCLI_AUTH": self.options.password} if self.options.password else os.environ
        command = [_found("redis-cli"), "-e", "--no-auth-warning", *where, *arguments]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"redis-cli {' '.join(arguments)}: no answer within {_ANSWER_SECONDS:.0f} s") from error
        if done.returncode != 0:
            raise ClusterError(f"redis-cli {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout.removesuffix("\n")

    def _config(self) -> list[str]:
        options = self.options
        lines = {"bind": ADDRESS, "dir": str(self.directory), "daemonize": "no", "port": str(self.port)}
        if options.tls:
            lines |= {"port": "0", "tls-port": str(self.port), "tls-ca-cert-file": str(self.keys / "ca.crt")}
            lines |= {"tls-replication": "yes", "tls-cluster": "yes"}
            lines |= {f"tls-{kind}-file": str(self.keys / f"redis.{end}") for kind, end in (("cert", "crt"), ("key", "key"))}
        if options.sentinel_of:
            return [f"{name} {value}" for name, value in lines.items()] + [
                f"sentinel monitor {SENTINEL_SERVICE} {ADDRESS} {options.sentinel_of.port} 1",
                f"sentinel down-after-milliseconds {SENTINEL_SERVICE} 500",
                f"sentinel failover-timeout {SENTINEL_SERVICE} 1000",
            ]
        lines |= {"save": '""', "appendonly": "no"}
        if options.unix_socket:
            lines |= {"port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700"}
        if options.user:
            lines |= {"user default": "off", f"user {options.user}": f"on >{options.password} ~* &* +@all"}
        elif options.password:
            lines |= {"requirepass": options.password}
        if options.maxmemory:
            lines |= {"maxmemory": options.maxmemory, "maxmemory-policy": "noeviction"}
        if options.replica_of:
            lines |= {"replicaof": f"{ADDRESS} {options.replica_of.port}"}
        if options.cluster:
            # By default its bus has the port plus 10000, which may be taken.
            lines |= {"cluster-enabled": "yes", "cluster-port": str(free_port(ADDRESS))}
        return [f"{name} {value}" for name, value in (lines | dict(options.directives)).items()]

    def _listens(self) -> bool:
        family, address = (
            (socket.AF_UNIX, str(self.socket)) if self.options.unix_socket else (socket.AF_INET, (ADDRESS, self.port))
        )
        with socket.socket(family) as connection:
            return connection.connect_ex(address) == 0

    def _wait_until(self, condition: Callable[[], bool], trouble: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            if not self._background.alive() or time.monotonic() > deadline:
                raise ClusterError(f"redis-server {trouble}; its log: {self.log}")
            time.sleep(0.005)


def up(directory: Path, report: Report) -> str | None:
    """The URL of the Redis beside the cluster of `directory`, started unless it runs; also in `redis-url` there. None,
    with the reason reported, where there is none to be had: the operator runs without one too.
    """
    told, background = directory / "redis-url", Background("redis", directory / "redis")
    if background.alive():
        url = told.read_text().strip()
        report(f"Redis runs already: {url}")
        return url
    try:
        url = RedisServer(directory / "redis").start(report).url
    except ClusterError as error:
        report(f"no Redis, which the operator can do without: {error}")
        return None
    told.write_text(f"{url}\n")
    report(f"Redis at {url}")
    return url


def down(directory: Path) -> None:
    """End the Redis beside the cluster of `directory` and delete its files. Nothing happens where there is none."""
    if not (directory / "redis").is_dir():
        return
    Background("redis", directory / "redis").end()
    shutil.rmtree(directory / "redis")
    (directory / "redis-url").unlink(missing_ok=True)


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ClusterError(f"{program} is not in the path: apt-get install {PACKAGE.name}")
    return path
