"""Sets up the way in from the files of `examples/gateways`, with the addresses of this machine in place of a cluster's."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from localcluster.certificates import Authority
from localcluster.errors import ClusterError
from testservers.dns import NameServer
from testservers.gateways import Caddy, Envoy
from testservers.login import OAuth2Proxy, Provider
from testservers.nginx import Nginx
from testservers.server import ADDRESS, Server

GATEWAYS = ("nginx", "caddy", "envoy")
DOMAIN = "example.org"
"""The domain of the examples, whose hosts are `auth.example.org` and `<slug>.files.example.org`."""
LOCAL_DOMAIN = "example.localhost"
"""A domain of which browsers take every host for their own machine."""
ANY = "0.0.0.0"  # noqa: S104  # what the examples have, and what is replaced
SSO = "oauth2-proxy.sso.svc.cluster.local"


@dataclass(frozen=True)
class Pods:
    """The addresses of the users' pods: an IPv4 address for each slug, and the port that all have."""

    addresses: Mapping[str, str]
    port: int = 80


class Login:
    """An oauth2-proxy that asks the gate, and its provider. All files are in `directory`.

    `gate` is the URL of the gate and `key` its key. With `local_port`, browsers use plain HTTP on that port of LOCAL_DOMAIN.
    """

    def __init__(self, examples: Path, directory: Path, gate: str, key: str, local_port: int | None = None) -> None:
        self.examples = examples
        self.directory = directory
        self.gate = gate
        self.key = key
        self.local_port = local_port
        self.provider = Provider(directory)
        self.proxy = OAuth2Proxy(directory)
        self.client_secret = secrets.token_urlsafe(24)
        self.cookie_secret = secrets.token_urlsafe(24)

    def start(self, users: list[str]) -> "Login":
        """Start both servers, and return this object. Raises ClusterError if one does not start."""
        self.provider.start(users)
        self.proxy.start(self.config())
        return self

    def config(self) -> str:
        """Return the configuration of oauth2-proxy. The three secrets are in it, not in the environment."""
        text = replaced(
            (self.examples / "oauth2-proxy.cfg").read_text(),
            {
                "0.0.0.0:4180": self.proxy.address,
                "https://sso.example.org/realms/example": self.provider.url,
                "http://userstorage-gate.userstorage-system.svc:8444/": f"{self.gate}/",
                "10.0.0.0/8": ADDRESS,
            },
        )
        if self.local_port is not None:
            text = replaced(
                text,
                {
                    f"https://auth.{DOMAIN}": f"http://auth.{LOCAL_DOMAIN}:{self.local_port}",
                    f'".files.{DOMAIN}"': f'".files.{LOCAL_DOMAIN}:{self.local_port}"',
                    f'".{DOMAIN}"': f'".{LOCAL_DOMAIN}"',
                    "cookie_secure = true": "cookie_secure = false",
                },
            )
        named = {
            "client_secret": self.client_secret,
            "cookie_secret": self.cookie_secret,
            "basic_auth_password": self.key,
        }
        return text + "".join(f'{name} = "{value}"\n' for name, value in named.items())

    def stop(self) -> None:
        """Stop both servers."""
        self.proxy.stop()
        self.provider.stop()


class Gateway:
    """One of `GATEWAYS`, in front of a login and of pods. All files are in `directory`.

    With `local`, which only nginx can be, it serves plain HTTP for LOCAL_DOMAIN.
    """

    def __init__(self, name: str, examples: Path, directory: Path, *, local: bool = False) -> None:
        self.name = name
        self.examples = examples
        self.directory = directory
        self.local = local
        self.dns = NameServer(directory)
        kinds: dict[str, type[Nginx | Caddy | Envoy]] = {"nginx": Nginx, "caddy": Caddy, "envoy": Envoy}
        self.server = kinds[name](directory)

    @property
    def port(self) -> int:
        """The port on which the gateway serves."""
        return self.server.port

    def start(self, login: Server, pods: Pods) -> "Gateway":
        """Start the gateway and the name server that it asks, and return this object.

        `login` is the oauth2-proxy. Raises ClusterError if the gateway does not start.
        """
        authority = Authority(self.directory)
        authority.server("tls", [f"*.files.{DOMAIN}", f"auth.{DOMAIN}"], [ADDRESS])
        self.dns.start({_service(slug): address for slug, address in pods.addresses.items()})
        try:
            match self.server:
                case Nginx() as nginx:
                    nginx.start(self._nginx(login, pods))
                case Caddy() as caddy:
                    caddy.start(self._caddyfile(login, pods))
                case Envoy() as envoy:
                    envoy.start(self.envoy_config(login, pods))
        except ClusterError:
            self.dns.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the gateway and its name server."""
        self.server.stop()
        self.dns.stop()

    def _nginx(self, login: Server, pods: Pods) -> str:
        config = replaced(
            (self.examples / "nginx.conf").read_text(),
            {
                f"{SSO}:4180": login.address,
                "10.96.0.10": self.dns.address,
                "listen 443": f"listen {self.server.address}",
                "/etc/nginx/tls": str(self.directory),
                ".users.svc.cluster.local:80": f".users.svc.cluster.local:{pods.port}",
            },
        )
        if not self.local:
            return config
        config = "".join(line for line in config.splitlines(keepends=True) if "ssl_certificate" not in line)
        changes = {" ssl": "", "https://$host": f"http://$host:{self.server.port}", DOMAIN: LOCAL_DOMAIN}
        return replaced(config, {**changes, re.escape(DOMAIN): re.escape(LOCAL_DOMAIN)})

    def _caddyfile(self, login: Server, pods: Pods) -> str:
        return replaced(
            (self.examples / "Caddyfile").read_text(),
            {
                f"{SSO}:4180": login.address,
                "10.96.0.10": self.dns.address,
                ":443": f":{self.server.port}",
                "admin off": f"admin off\n\tdefault_bind {ADDRESS}",
                "/etc/caddy/tls": str(self.directory),
                ".users.svc.cluster.local:80": f".users.svc.cluster.local:{pods.port}",
            },
        )

    def envoy_config(self, login: Server, pods: Pods) -> dict[str, Any]:
        """Return the configuration of an Envoy for that oauth2-proxy and these pods."""
        text = replaced((self.examples / "envoy.yaml").read_text(), {"/etc/envoy/tls": str(self.directory)})
        config: dict[str, Any] = yaml.safe_load(text)
        found = {(ANY, 443): (ADDRESS, self.server.port), (SSO, 4180): (ADDRESS, login.port)}
        found |= {(_service(slug), 80): (address, pods.port) for slug, address in pods.addresses.items()}
        _replace_addresses(config, found)
        return config


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """Return the text with every key replaced by its value. Raises ClusterError if the text does not have one of the keys."""
    for old, new in changes.items():
        if old not in text:
            raise ClusterError(f"the example has no {old!r}")
        text = text.replace(old, new)
    return text


def _service(slug: str) -> str:
    return f"user-storage-{slug}.users.svc.cluster.local"


def _replace_addresses(part: Any, found: Mapping[tuple[str, int], tuple[str, int]]) -> None:
    if isinstance(part, list):
        for entry in part:
            _replace_addresses(entry, found)
    elif isinstance(part, dict):
        if "socket_address" in part:
            old = part["socket_address"]
            old["address"], old["port_value"] = found[old["address"], old["port_value"]]
        for entry in part.values():
            _replace_addresses(entry, found)
