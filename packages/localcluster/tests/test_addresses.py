"""Address ranges and ports that nobody uses."""

import socket
from ipaddress import IPv4Network

import pytest

from localcluster.addresses import PORTS, Network, free_network, free_port, routed_ranges
from localcluster.errors import ClusterError


def test_the_first_network_is_taken_where_nothing_is_routed() -> None:
    assert free_network([]) == Network(0)


@pytest.mark.parametrize("used", ["10.211.0.0/30", "10.212.0.128/25", "10.213.0.7/32", "10.211.0.0/24"])
def test_a_network_is_passed_over_if_any_part_of_it_is_used(used: str) -> None:
    assert free_network([IPv4Network(used)]) == Network(1)


def test_no_network_is_left_where_a_vpn_routes_all_private_addresses() -> None:
    with pytest.raises(ClusterError, match="no free address range"):
        free_network([IPv4Network("10.0.0.0/8")])


def test_networks_of_two_nodes_share_nothing() -> None:
    first, second = Network(3), Network(4)
    assert not second.overlaps([first.cable, first.pods, first.services])
    assert (first.cable_name, first.peer_name) != (second.cable_name, second.peer_name)


def test_names_of_interfaces_fit_the_kernel() -> None:
    assert max(len(Network(255).cable_name), len(Network(255).peer_name)) <= 15


def test_the_default_route_uses_no_range() -> None:
    routes = [{"dst": "default", "dev": "eth0"}, {"dst": "192.0.2.0/24"}, {"dst": "192.0.2.7", "type": "local"}]
    assert routed_ranges(routes) == [IPv4Network("192.0.2.0/24"), IPv4Network("192.0.2.7/32")]


def test_a_port_that_is_listened_on_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr("random.sample", lambda _ports, _count: [taken])
        with pytest.raises(ClusterError, match="no free TCP port"):
            free_port()


def test_a_free_port_is_out_of_the_kernels_reach() -> None:
    assert free_port() in PORTS
