"""Runs a real nginx on the loopback address, with the servers that a test configures."""

from pathlib import Path
from typing import Self

from localcluster.progress import Report, silent
from testservers import debian
from testservers.server import Server

PACKAGE = "nginx"
"""The Debian package with the program. It is not installed, because its installation starts a server."""
_CONFIG = """daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr info;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{servers}
}}
"""


def program(report: Report = silent) -> Path:
    """Return the path of nginx. If PATH does not have it, the Debian package is downloaded, once.

    Raises ClusterError if that fails.
    """
    return debian.program("nginx", PACKAGE, "usr/sbin", report)


class Nginx(Server):
    """One nginx. The `listen` of its servers names its address."""

    name = "nginx"

    def start(self, servers: str, report: Report = silent) -> Self:
        """Start nginx with these `server` blocks, or other directives of `http`, and return this object.

        Raises ClusterError if it does not start.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nginx.conf"
        config.write_text(_CONFIG.format(directory=self.directory, servers=servers))
        return self.run([str(program(report)), "-e", "stderr", "-p", str(self.directory), "-c", str(config)])
