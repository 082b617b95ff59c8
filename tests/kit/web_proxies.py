"""Debian's nginx and Caddy, with the parts of a configuration that a page of docs/ tells people to write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.kit.process import Process, accepts, free_port

if TYPE_CHECKING:
    from pathlib import Path

_NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
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
_CADDY = """\
{{
	admin off
	auto_https off
	storage file_system {directory}/storage
}}
{sites}
"""


class Nginx(Process):
    """With `servers` within its `http` block; one of them must listen on 8080, which becomes the free `port`."""

    def __init__(self, directory: Path, servers: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "nginx.conf"
        servers = servers.replace("listen 8080;", f"listen 127.0.0.1:{self.port};")
        config.write_text(_NGINX.format(directory=directory, servers=servers))
        super().__init__(
            ["/usr/sbin/nginx", "-p", str(directory), "-c", str(config), "-e", "stderr"],
            directory / "nginx.log",
            lambda: accepts(self.port),
        )


class Caddy(Process):
    """With `sites` of a Caddyfile; one of them must be `:8080`, which becomes the free `port`."""

    def __init__(self, directory: Path, sites: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "Caddyfile"
        sites = sites.replace(":8080 {", f"http://:{self.port} {{\n\tbind 127.0.0.1")
        config.write_text(_CADDY.format(directory=directory, sites=sites))
        super().__init__(
            ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"],
            directory / "caddy.log",
            lambda: accepts(self.port),
            env={**os.environ, "HOME": str(directory), "XDG_CONFIG_HOME": str(directory)},
        )
