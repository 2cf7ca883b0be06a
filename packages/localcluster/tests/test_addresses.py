"""Unused address ranges and ports."""

import socket
from ipaddress import IPv4Network

import pytest

from localcluster.addresses import PORTS, Network, free_network, free_port, routed_ranges
from localcluster.errors import ClusterError


def test_first_network_is_free_if_nothing_is_routed() -> None:
    assert free_network([]) == Network(0)


@pytest.mark.parametrize("used", ["10.211.0.0/30", "10.212.0.128/25", "10.213.0.7/32", "10.211.0.0/24"])
def test_partly_used_network_is_skipped(used: str) -> None:
    assert free_network([IPv4Network(used)]) == Network(1)


def test_error_if_all_private_addresses_are_routed() -> None:
    with pytest.raises(ClusterError, match="no free address range"):
        free_network([IPv4Network("10.0.0.0/8")])


def test_networks_of_two_nodes_do_not_overlap() -> None:
    first, second = Network(3), Network(4)
    assert not second.overlaps([first.veth, first.pods, first.services])
    assert (first.veth_name, first.peer_name) != (second.veth_name, second.peer_name)


def test_interface_names_fit_the_kernels_limit() -> None:
    assert max(len(Network(255).veth_name), len(Network(255).peer_name)) <= 15


def test_default_route_does_not_count_as_used() -> None:
    routes = [{"dst": "default", "dev": "eth0"}, {"dst": "192.0.2.0/24"}, {"dst": "192.0.2.7", "type": "local"}]
    assert routed_ranges(routes) == [IPv4Network("192.0.2.0/24"), IPv4Network("192.0.2.7/32")]


def test_port_with_a_listener_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr("random.sample", lambda _ports, _count: [taken])
        with pytest.raises(ClusterError, match="no free TCP port"):
            free_port()


def test_free_port_is_not_ephemeral() -> None:
    assert free_port() in PORTS
