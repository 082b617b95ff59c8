"""nginx, Caddy, Traefik and Envoy, with the parts of a configuration that a page of docs/ tells people to write.

Debian has the first two; the others stand in an environment of their own (`make proxies`).
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPException
from pathlib import Path

from tests.kit.fetch import fetch
from tests.kit.process import Process, accepts, free_port

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


class Traefik(Process):
    """With `dynamic` as its file of routers, services and middlewares, for what comes in by the entry point `web`."""

    def __init__(self, directory: Path, dynamic: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "dynamic.yml"
        config.write_text(dynamic)
        super().__init__(
            [
                str(_program("traefik")), f"--entryPoints.web.address=127.0.0.1:{self.port}",
                f"--providers.file.filename={config}", "--global.checkNewVersion=false",
                "--global.sendAnonymousUsage=false", "--log.level=INFO",
            ],
            directory / "traefik.log",
            lambda: accepts(self.port) and self._has_routes(),
        )  # fmt: skip

    def _has_routes(self) -> bool:
        """It listens, and even names its routers in the log, some time before it answers by them."""
        try:
            return b"404 page not found" not in fetch(f"http://127.0.0.1:{self.port}/").body
        except (OSError, HTTPException):
            return False


class Envoy(Process):
    """With `bootstrap`, one listener of which must be on 8080, which becomes the free `port`."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "envoy.yml"
        there = f"{{address: 127.0.0.1, port_value: {self.port}}}"
        config.write_text(bootstrap.replace("{address: 0.0.0.0, port_value: 8080}", there))
        super().__init__(
            [str(_program("envoy")), "--config-path", str(config), "--concurrency", "1", "--disable-hot-restart"],
            directory / "envoy.log",
            lambda: accepts(self.port),
        )


def _program(name: str) -> Path:
    program = Path(sys.prefix) / "proxies" / "bin" / name
    if not program.exists():
        raise FileNotFoundError(f"{program}: `make proxies` makes the environment of the proxies")
    return program
