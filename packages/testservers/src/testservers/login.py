"""Runs a real oauth2-proxy and a real OpenID Connect provider on the loopback address."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from localcluster.builds import GoProgram, build_go
from localcluster.progress import Report, silent
from testservers.server import ADDRESS, Server

OAUTH2_PROXY = GoProgram("oauth2proxy", "github.com/oauth2-proxy/oauth2-proxy/v7", modules=Path(__file__).parent / "go")


class OAuth2Proxy(Server):
    """One oauth2-proxy. `http_address` of its configuration names its address."""

    name = "oauth2-proxy"

    def start(self, config: str, report: Report = silent) -> Self:
        """Build oauth2-proxy unless the cache has it, start it with that configuration file, and return this object.

        Raises ClusterError if it cannot be built or does not start.
        """
        program = build_go(OAUTH2_PROXY, report)
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "oauth2-proxy.cfg"
        path.touch(mode=0o600)
        path.write_text(config)
        return self.run([str(program), f"--config={path}"])


class Provider(Server):
    """An OpenID Connect provider. Its page logs in every user at a click, and asks for no password."""

    name = "oidc-provider"

    def start(self, users: Iterable[str]) -> Self:
        """Start the provider with these users, and return this object. Raises ClusterError if it does not start.

        The claims of `alice` are `preferred_username: alice` and `email: alice@example.org`.
        """
        options = [f"--user-claims={json.dumps(_claims(user))}" for user in users]
        module = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock"]
        return self.run([*module, f"--host={ADDRESS}", f"--port={self.port}", *options])


def _claims(user: str) -> dict[str, str | bool]:
    return {
        "sub": f"id-of-{user}",
        "preferred_username": user,
        "email": f"{user}@example.org",
        "email_verified": True,
    }
