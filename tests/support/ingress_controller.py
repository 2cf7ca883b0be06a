"""What an ingress controller on nginx makes of Ingresses: one server per host, one location per path, and no rewrite."""

from collections.abc import Callable, Iterable
from typing import Any

Object = dict[str, Any]


def nginx_servers(ingresses: Iterable[Object], listen: str, address: Callable[[str], str]) -> str:
    """Return the `server` blocks for plain HTTP at `listen`. `address(service)` returns the host:port of a Service.

    A path of type Prefix is compared element by element, and a `/` at its end does not count (Ingress v1): so `/u/alice/`
    admits `/u/alice` too, and not `/u/alicex`.
    """
    locations: dict[str, list[str]] = {}
    for ingress in ingresses:
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert path["pathType"] == "Prefix"
                backend = path["backend"]["service"]
                locations.setdefault(rule["host"], []).extend(_locations(path["path"], address(backend["name"])))
    return "\n".join(
        f"server {{ listen {listen}; server_name {host}; client_max_body_size 0; {' '.join(found)} }}"
        for host, found in locations.items()
    )


def _locations(path: str, address: str) -> list[str]:
    directives = (
        f"proxy_pass http://{address}; proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Host $host;"
        " proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto $scheme;"
    )
    prefix = path if path.endswith("/") else f"{path}/"
    exact = [f"location = {prefix.removesuffix('/')} {{ {directives} }}"] if prefix != "/" else []
    return [f"location {prefix} {{ {directives} }}", *exact]
