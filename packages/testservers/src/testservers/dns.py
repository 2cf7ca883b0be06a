"""Runs a name server on the loopback address, which answers for the Services of a cluster as its DNS does."""

import argparse
import sys
from collections.abc import Mapping
from typing import Self

from dnslib import QTYPE, RCODE, RR, A, DNSRecord  # type: ignore[import-untyped]
from dnslib.server import BaseResolver, DNSHandler, DNSServer  # type: ignore[import-untyped]

from testservers.server import ADDRESS, Server


class NameServer(Server):
    """One name server."""

    name = "name-server"

    def start(self, addresses: Mapping[str, str]) -> Self:
        """Start the server with the IPv4 address of each name, and return this object.

        Every other name does not exist. Raises ClusterError if the server does not start.
        """
        entries = [f"{name}={address}" for name, address in addresses.items()]
        return self.run([sys.executable, "-m", "testservers.dns", str(self.port), *entries])

    def ready(self) -> bool:
        """Whether the server answers."""
        try:
            DNSRecord.question("ready").send(ADDRESS, self.port, timeout=1)
        except (TimeoutError, OSError):
            return False
        return True


class _Table(BaseResolver):  # type: ignore[misc]  # untyped
    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        del handler
        answer = request.reply()
        address = self._addresses.get(str(request.q.qname).rstrip(".").lower())
        if address is None:
            answer.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            answer.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=1))
        return answer


def main(arguments: list[str] | None = None) -> None:
    """Answer questions until the process is terminated. The arguments are a port, and `name=address` for each name."""
    parser = argparse.ArgumentParser(prog="testservers.dns", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("entries", nargs="*", metavar="name=address")
    options = parser.parse_args(arguments)
    addresses = dict(entry.split("=", 1) for entry in options.entries)
    DNSServer(_Table(addresses), port=options.port, address=ADDRESS).start()


if __name__ == "__main__":
    main()
