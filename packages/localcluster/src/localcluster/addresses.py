"""Ports and address ranges that nobody on this machine uses."""

import ipaddress
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localcluster.errors import ClusterError

PORTS = range(16000, 30000)
"""Below the ports that the kernel gives to outgoing connections, which would otherwise take one of ours between the
moment it is chosen and the moment its server listens."""


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port of that address on which nothing listens. ClusterError where fifty tries find none."""
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
    """The addresses of one node: its two ends of the cable to this machine, its pods and its Services."""

    number: int

    @property
    def cable(self) -> ipaddress.IPv4Network:
        """The range of the virtual cable; this machine has its first address, the node its second."""
        return ipaddress.IPv4Network(f"10.211.{self.number}.0/30")

    @property
    def machine(self) -> str:
        """The address of this machine on the cable."""
        return str(self.cable[1])

    @property
    def node(self) -> str:
        """The node's address, and its API server's."""
        return str(self.cable[2])

    @property
    def pods(self) -> ipaddress.IPv4Network:
        """Where pods get their addresses from."""
        return ipaddress.IPv4Network(f"10.212.{self.number}.0/24")

    @property
    def services(self) -> ipaddress.IPv4Network:
        """Where Services get their addresses from; the first is the API server's."""
        return ipaddress.IPv4Network(f"10.213.{self.number}.0/24")

    @property
    def cable_name(self) -> str:
        """The interface at this machine's end of the cable."""
        return f"localcluster{self.number}"

    @property
    def peer_name(self) -> str:
        """The interface at the node's end."""
        return f"lcnode{self.number}"

    def overlaps(self, used: Iterable[ipaddress.IPv4Network]) -> bool:
        """Whether anything of it lies in a range that is used."""
        return any(mine.overlaps(other) for other in used for mine in (self.cable, self.pods, self.services))


def free_network(used: Iterable[ipaddress.IPv4Network]) -> Network:
    """The first network that overlaps none of these ranges. ClusterError where all 256 do."""
    taken = list(used)
    for number in range(256):
        network = Network(number)
        if not network.overlaps(taken):
            return network
    raise ClusterError("no free address range for a node: 10.211.0.0/16 to 10.213.0.0/16 are all routed")


def routed_ranges(routes: Iterable[Mapping[str, Any]]) -> list[ipaddress.IPv4Network]:
    """The ranges in the answer of `ip -json -4 route`, but for the default route."""
    return [ipaddress.IPv4Network(route["dst"], strict=False) for route in routes if route.get("dst", "default") != "default"]
