"""Finds TCP ports and IP address ranges that this machine does not use."""

import ipaddress
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localcluster.errors import ClusterError

PORTS = range(16000, 30000)
"""The TCP ports that `free_port` chooses from.

The kernel's ephemeral ports are higher. So no outgoing connection can take a chosen port before the server listens on it.
"""


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port on which no process listens at `address`. Raises ClusterError if fifty random ports are in use."""
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
    """The IP address ranges of one node: for the veth pair between node and machine, for pods and for Services.

    `number`, 0 to 255, is the third byte of each address.
    """

    number: int

    @property
    def veth(self) -> ipaddress.IPv4Network:
        """The address range of the veth pair. This machine has the first address, the node the second."""
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
        """The interface name of the veth pair's end on this machine."""
        return f"localcluster{self.number}"

    @property
    def peer_name(self) -> str:
        """The interface name of the veth pair's end on the node."""
        return f"lcnode{self.number}"

    def overlaps(self, used: Iterable[ipaddress.IPv4Network]) -> bool:
        """Whether one of the three address ranges of this node overlaps one of the `used` ranges."""
        return any(mine.overlaps(other) for other in used for mine in (self.veth, self.pods, self.services))


def free_network(used: Iterable[ipaddress.IPv4Network]) -> Network:
    """Return the node addresses with the lowest number that overlap none of the `used` address ranges.

    Raises ClusterError if the addresses of all 256 numbers overlap a used range.
    """
    taken = list(used)
    for number in range(256):
        network = Network(number)
        if not network.overlaps(taken):
            return network
    raise ClusterError("no free address range for a node: 10.211.0.0/16 to 10.213.0.0/16 are all routed")


def routed_ranges(routes: Iterable[Mapping[str, Any]]) -> list[ipaddress.IPv4Network]:
    """Return the destinations of `routes`, the parsed output of `ip -json -4 route`, without the default route."""
    return [ipaddress.IPv4Network(route["dst"], strict=False) for route in routes if route.get("dst", "default") != "default"]
