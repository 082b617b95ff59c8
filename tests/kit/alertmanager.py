"""Debian's Alertmanager under /alertmanager, alone (no cluster)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.fetch import answers_ok
from tests.kit.process import Process, free_port

if TYPE_CHECKING:
    from pathlib import Path


class Alertmanager(Process):
    """One that keeps alerts and tells nobody."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}/alertmanager"
        config = directory / "alertmanager.yml"
        config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        command = [
            "prometheus-alertmanager",
            f"--config.file={config}",
            f"--storage.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.external-url=http://localhost/alertmanager",
            "--cluster.listen-address=",
        ]
        super().__init__(command, directory / "alertmanager.log", lambda: answers_ok(f"{self.base}/-/ready"))
