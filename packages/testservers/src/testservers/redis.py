"""Runs real Redis servers on the loopback address: one for a local cluster, or any number for a test."""

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

# Not the package redis-server, whose installation starts a server: redis-tools has the same program under another name.
PACKAGE = Package("redis-tools", "redis-check-rdb", "has Redis: server, sentinel and command line")

ADDRESS = "127.0.0.1"
SENTINEL_SERVICE = "main"
_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0


def ensure_installed(report: Report) -> None:
    """Install the Debian package with Redis unless Redis is installed. Raises ClusterError if that fails."""
    packages.ensure_package(PACKAGE, report)


def image_archive(reference: str, report: Report) -> Path:
    """Return the tar file of a container image that runs redis-server. The name of the image is `reference`.

    The image contains this machine's redis-server and its shared libraries. Raises ClusterError if Redis cannot be installed.
    """
    ensure_installed(report)
    program = Path(shutil.which(PACKAGE.proof) or "")
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    libraries = {word: Path(word) for word in listed.split() if word.startswith("/")}
    image = Image(reference, ["redis-server"], {"/usr/local/bin/redis-server": program, **libraries}, user="65532:65532")
    return nodeimages.archive(image)


@dataclass(frozen=True)
class Options:
    """The configuration of a Redis server. With the defaults it has no password and no TLS, and writes no data to disk.

    With `user`, only that user can log in, with `password`. Without `user`, `password` is that of the default user. With `tls`,
    the server requires client certificates. `directives` are further directives of redis.conf, by name.
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
    """One Redis server or Sentinel, with its files in `directory`. It has the same port after a restart."""

    def __init__(self, directory: Path, options: Options | None = None) -> None:
        self.directory = directory.absolute()
        self.options = options or Options()
        self.port = free_port(ADDRESS)
        # A sentinel uses the keys of its master: it has to trust the same authority.
        self.keys = (self.options.sentinel_of or self).directory / "keys"
        self._background = Background("redis", self.directory)

    @property
    def url(self) -> str:
        """The URL for clients, without user and password. Its scheme says if this is a Sentinel or a Redis Cluster."""
        if self.options.unix_socket:
            return f"unix://{self.socket}"
        scheme, address = "rediss" if self.options.tls else "redis", f"{ADDRESS}:{self.port}"
        if self.options.sentinel_of:
            return f"{scheme}+sentinel://{address}/{SENTINEL_SERVICE}/0"
        if self.options.cluster:
            return f"{scheme}+cluster://{address}"
        return f"{scheme}://{address}/0"

    @property
    def socket(self) -> Path:
        """The path of the unix socket. The server listens on it only with the option `unix_socket`."""
        return self.directory / "redis.sock"

    @property
    def log(self) -> Path:
        """The file with the output of the server since its last start."""
        return self._background.log

    def start(self, report: Report = silent) -> Self:
        """Install Redis if it is missing, start the server and wait until it accepts connections. Return this object.

        Raises ClusterError if Redis cannot be installed, or if the server does not accept connections.
        """
        ensure_installed(report)
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.options.tls and not self.keys.exists():
            authority = Authority(self.keys)
            authority.server("redis", ["localhost"], [ADDRESS])
            authority.client("client", "operator")
        # The program is a Redis server if it is called redis-server.
        program = self.directory / "redis-server"
        program.unlink(missing_ok=True)
        program.symlink_to(_path_of(PACKAGE.proof))
        config = self.directory / "redis.conf"
        config.touch(mode=0o600)
        config.write_text("".join(f"{line}\n" for line in self._config()))
        self._background.start(
            [str(program), str(config), *(["--sentinel"] if self.options.sentinel_of else [])], context=self.url
        )
        self._wait_until(self._listens, "accepts no connections")
        if self.options.cluster and "cluster_slots_assigned:16384" not in self.cli("cluster", "info"):
            self.cli("cluster", "addslotsrange", "0", "16383")
            self._wait_until(lambda: "cluster_state:ok" in self.cli("cluster", "info"), "does not form a cluster")
        return self

    def stop(self) -> None:
        """Stop the server with SIGKILL: its data is lost. A server that is not running is no error."""
        self.kill()
        self._background.stop()

    def kill(self) -> None:
        """Send SIGKILL to the server, and wait for its end. A server that is not running is no error."""
        self._background.kill()

    def pause(self) -> None:
        """Suspend the server with SIGSTOP. The kernel still accepts connections for it, but no request is answered."""
        self._background.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the server after `pause`, with SIGCONT."""
        self._background.signal(signal.SIGCONT)

    def cli(self, *arguments: str) -> str:
        """Send a command to the server with redis-cli, and return the output without the last newline.

        Raises ClusterError if the server refuses the command or does not answer.
        """
        target = ["-s", str(self.socket)] if self.options.unix_socket else ["-h", ADDRESS, "-p", str(self.port)]
        if self.options.tls:
            pair = ["--cert", str(self.keys / "client.crt"), "--key", str(self.keys / "client.key")]
            target += ["--tls", "--cacert", str(self.keys / "ca.crt"), *pair]
        if self.options.user:
            target += ["--user", self.options.user]
        environment = {**os.environ, "REDISCLI_AUTH": self.options.password} if self.options.password else os.environ
        command = [_path_of("redis-cli"), "-e", "--no-auth-warning", *target, *arguments]
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
            # The default port of its bus is the port plus 10000, which may be in use.
            lines |= {"cluster-enabled": "yes", "cluster-port": str(free_port(ADDRESS))}
        return [f"{name} {value}" for name, value in (lines | dict(options.directives)).items()]

    def _listens(self) -> bool:
        family, address = (
            (socket.AF_UNIX, str(self.socket)) if self.options.unix_socket else (socket.AF_INET, (ADDRESS, self.port))
        )
        with socket.socket(family) as connection:
            return connection.connect_ex(address) == 0

    def _wait_until(self, condition: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            if not self._background.alive() or time.monotonic() > deadline:
                raise ClusterError(f"redis-server {failure}; its log: {self.log}")
            time.sleep(0.005)


def up(directory: Path, report: Report) -> str | None:
    """Start a Redis server for the cluster whose files are in `directory`, unless it runs. Return the URL of the server.

    The URL is also in the file `redis-url` of that directory. If Redis cannot be started, report why and return None.
    """
    url_file, background = directory / "redis-url", Background("redis", directory / "redis")
    if background.alive():
        url = url_file.read_text().strip()
        report(f"Redis is running: {url}")
        return url
    try:
        url = RedisServer(directory / "redis").start(report).url
    except ClusterError as error:
        report(f"no Redis, so the operator runs without it: {error}")
        return None
    url_file.write_text(f"{url}\n")
    report(f"Redis at {url}")
    return url


def down(directory: Path) -> None:
    """Stop the Redis server that `up` started for the cluster in `directory`, and delete the files of the server.

    A directory without such a server is no error.
    """
    if not (directory / "redis").is_dir():
        return
    Background("redis", directory / "redis").stop()
    shutil.rmtree(directory / "redis")
    (directory / "redis-url").unlink(missing_ok=True)


def _path_of(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ClusterError(f"{program} is not in the path: apt-get install {PACKAGE.name}")
    return path
