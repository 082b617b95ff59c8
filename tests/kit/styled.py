"""Debian's Prometheus and Alertmanager in every style of `--web.external-url` and `--web.route-prefix`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kit.fetch import answers_ok
from tests.kit.process import Process, free_port

if TYPE_CHECKING:
    from pathlib import Path

#: What the program is started with, what it then answers below, and whether the route takes the prefix off.
STYLES = {
    "kept": (["--web.external-url=https://127.0.0.1/PREFIX"], "/PREFIX", False),
    "stripped": (["--web.external-url=https://127.0.0.1/PREFIX", "--web.route-prefix=/"], "", True),
    "stripped, and the program knows nothing of it": ([], "", True),
}


class Styled(Process):
    """A program on a free port that is told of its prefix (`prometheus`, without a slash) as `style` says."""

    def __init__(self, directory: Path, command: str, config: str, style: str, prefix: str, *flags: str) -> None:
        directory.mkdir()
        style_flags, below, self.strips = STYLES[style]
        self.prefix = f"/{prefix}"
        self.port = free_port()
        (directory / "config.yml").write_text(config.replace("PORT", str(self.port)))
        ready = f"http://127.0.0.1:{self.port}{below.replace('PREFIX', prefix)}/-/ready"
        super().__init__(
            [
                command,
                f"--config.file={directory / 'config.yml'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                *(flag.replace("PREFIX", prefix) for flag in style_flags),
                *flags,
            ],
            directory / "log",
            lambda: answers_ok(ready),
        )

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def route(self, **more: Any) -> dict[str, Any]:
        """The route of promgate to it, open to anybody unless `more` says otherwise."""
        route = {"name": self.prefix[1:], "path": self.prefix, "upstream": self.upstream, "auth": ["none"]}
        return {**route, "strip_prefix": self.strips, **more}


def styled_prometheus(directory: Path, style: str) -> Styled:
    """Under /prometheus; it takes remote writes, and scrapes itself each second."""
    below = STYLES[style][1].replace("PREFIX", "prometheus")
    config = (
        "scrape_configs: [{job_name: self, scrape_interval: 1s, "
        f"metrics_path: {below}/metrics, static_configs: [{{targets: ['127.0.0.1:PORT']}}]}}]\n"
    )
    flags = (f"--storage.tsdb.path={directory / 'data'}", "--web.enable-remote-write-receiver")
    return Styled(directory, "prometheus", config, style, "prometheus", *flags)


def styled_alertmanager(directory: Path, style: str) -> Styled:
    """Under /alertmanager; it keeps alerts and tells nobody."""
    config = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
    flags = (f"--storage.path={directory / 'data'}", "--cluster.listen-address=")
    return Styled(directory, "prometheus-alertmanager", config, style, "alertmanager", *flags)
