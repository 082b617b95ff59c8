"""Debian's vmagent: a sender of another make, which retries a 401 and reads its token file each second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.kit.fetch import answers_ok
from tests.kit.process import Process, free_port

if TYPE_CHECKING:
    from pathlib import Path


class VmAgent(Process):
    """Scrapes `target` each second and sends to `url` over one queue (more would reorder)."""

    def __init__(self, directory: Path, *, target: str, url: str, token_file: Path, ca_file: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "scrape.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                    "scrape_configs": [{"job_name": "counter", "static_configs": [{"targets": [target]}]}],
                }
            )
        )
        command = [
            "vmagent",
            f"-promscrape.config={config}",
            f"-remoteWrite.url={url}",
            f"-remoteWrite.bearerTokenFile={token_file}",
            f"-remoteWrite.tlsCAFile={ca_file}",
            "-remoteWrite.queues=1",
            "-remoteWrite.flushInterval=1s",
            f"-remoteWrite.tmpDataPath={directory / 'queue'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
        ]
        super().__init__(command, directory / "vmagent.log", lambda: answers_ok(f"http://127.0.0.1:{self.port}/health"))
