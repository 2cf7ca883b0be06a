"""Unused TCP ports and address ranges of this machine."""

import ipaddress
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localcluster.errors import ClusterError

PORTS = range(16000, 30000)
"""The ports to choose from. The kernel's ephemeral ports are higher, so no outgoing connection can take a chosen port before
its server listens.
"""


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port of that address on which nothing listens. Raises ClusterError if fifty random ports are in use."""
    for port in random.sample(PORTS, 50):
        with socket.socket() as candidate:
            try:
                candidate.bind((address, port))
            except OSError:
                continue
            return port
    raise ClusterError(f"no free TCP port on {address} between {PORTS.start} and {PORTS.stop - 1}")


@dataclass(frozen=True)
class Network:
    """The addresses of one node: the veth pair between it and this machine, its pods and its Services."""

    number: int

    @property
    def veth(self) -> ipaddress.IPv4Network:
        """The range of the veth pair. This machine has its first address, the node its second."""
        return ipaddress.IPv4Network(f"10.211.{self.number}.0/30")

    @property
    def host(self) -> str:
        """The address of this machine on the veth pair."""
        return str(self.veth[1])

    @property
    def node(self) -> str:
        """The address of the node and of its API server."""
        return str(self.veth[2])

    @property
    def pods(self) -> ipaddress.IPv4Network:
        """The range of pod addresses."""
        return ipaddress.IPv4Network(f"10.212.{self.number}.0/24")

    @property
    def services(self) -> ipaddress.IPv4Network:
        """The range of Service addresses. The first is that of the API server."""
        return ipaddress.IPv4Network(f"10.213.{self.number}.0/24")

    @property
    def veth_name(self) -> str:
        """The name of the interface on this machine."""
        return f"localcluster{self.number}"

    @property
    def peer_name(self) -> str:
        """The name of the interface on the node."""
        return f"lcnode{self.number}"

    def overlaps(self, used: Iterable[ipaddress.IPv4Network]) -> bool:
        """Whether one of this network's ranges overlaps one of the `used` ranges."""
        return any(mine.overlaps(other) for other in used for mine in (self.veth, self.pods, self.services))


def free_network(used: Iterable[ipaddress.IPv4Network]) -> Network:
    """Return the first network that overlaps none of the `used` ranges. Raises ClusterError if all 256 overlap one."""
    taken = list(used)
    for number in range(256):
        network = Network(number)
        if not network.overlaps(taken):
            return network
    raise ClusterError("no free address range for a node: 10.211.0.0/16 to 10.213.0.0/16 are all routed")


def routed_ranges(routes: Iterable[Mapping[str, Any]]) -> list[ipaddress.IPv4Network]:
    """Return the ranges in the output of `ip -json -4 route`, without the default route."""
    return [ipaddress.IPv4Network(route["dst"], strict=False) for route in routes if route.get("dst", "default") != "default"]
