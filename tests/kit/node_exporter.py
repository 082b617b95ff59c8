"""Debian's node_exporter with a web config: TLS and client certificates as exporters have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.process import Process, accepts, free_port

if TYPE_CHECKING:
    from pathlib import Path


class NodeExporter(Process):
    """With a `web_config` it speaks as that file says, else plain HTTP; only the load average is collected."""

    def __init__(self, directory: Path, web_config: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        command = [
            "prometheus-node-exporter",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--collector.disable-defaults",
            "--collector.loadavg",
        ]
        if web_config:
            command.append(f"--web.config.file={web_config}")
        super().__init__(command, directory / "node_exporter.log", lambda: accepts(self.port))
