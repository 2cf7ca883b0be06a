"""What is substituted in the examples for gateways. The end-to-end tests run the result."""

from pathlib import Path

import pytest

from localcluster import ClusterError
from testservers.frontdoor import Gateway, Login, Pods, replaced
from testservers.gateways import Caddy

EXAMPLES = Path(__file__).parents[3] / "examples/gateways"


def test_example_without_an_address_that_is_to_be_replaced_is_an_error() -> None:
    assert replaced("listen 443;", {"443": "8443"}) == "listen 8443;"
    with pytest.raises(ClusterError, match="has no '443'"):
        replaced("listen 80;", {"443": "8443"})


def test_login_of_the_demo_is_for_plain_http_on_its_port(tmp_path: Path) -> None:
    config = Login(EXAMPLES, tmp_path, "http://127.0.0.1:1", "key", local_port=4711).config()
    assert 'redirect_url = "http://auth.example.localhost:4711/oauth2/callback"' in config
    assert 'whitelist_domains = [".files.example.localhost:4711"]' in config
    assert "cookie_secure = false" in config


def test_envoy_leads_to_every_pod(tmp_path: Path) -> None:
    login = Login(EXAMPLES, tmp_path, "http://127.0.0.1:1", "key")
    pods = Pods({"alice": "10.0.0.1", "bob": "10.0.0.2"}, 8080)
    config = str(Gateway("envoy", EXAMPLES, tmp_path).envoy_config(login.proxy, pods))
    assert "svc.cluster.local" not in config
    assert "'10.0.0.1', 'port_value': 8080" in config


def test_server_that_cannot_start_names_its_log(tmp_path: Path) -> None:
    caddy = Caddy(tmp_path)
    with pytest.raises(ClusterError, match=r"caddy did not start: .*caddy\.log"):
        caddy.start("http://127.0.0.1:1 {\n\tno-such-directive\n}\n")
    assert "Caddyfile" in caddy.log.read_text()
