"""Options that a running process takes at its start alone: what they say later waits for a restart, and is told.

A Snapshot must fit the process that serves by it: promgate's own routes lie where its control plane answers, on the
listener that is open. So where such an option has changed, the Snapshot is built with what it said before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.config.read import Loaded
    from proxy.config.schema import Config, Settings

#: Settings that are read once -> the options that they come from.
AT_START: Final[Mapping[str, str]] = {
    "listen": "listen",
    "tls": "tls_server_config",
    "store": "tokens.store",
    "proxy_protocol": "proxy_protocol",
    "redirect_listen": "redirect_http.listen",
    "access_log": "access_log",
    "audit": "audit.file",
    "telemetry": "telemetry",
    "console_listen": "console.listen",
    "control_prefix": "control_prefix",
}


def options_waiting(running: Loaded, fresh: Loaded) -> Iterable[str]:
    """The options in which `fresh` differs from the process that `running` was taken by."""
    for field, option in AT_START.items():
        if option in fresh.waits or getattr(fresh.settings, field) != getattr(running.settings, field):
            yield option


def hold(config: Config, running: Loaded) -> tuple[str, ...]:
    """Put back what routes rest upon; the options that were changed."""
    settings, console, waits = running.settings, config.console, []
    if config.control_prefix != settings.control_prefix:
        waits.append("control_prefix")
        config.control_prefix = settings.control_prefix
    listen = console.listen if console is not None and console.enabled else None
    if listen != settings.console_listen:
        waits.append("console.listen")
        # A console that was not there yet does not come to the public listener because its own is not open.
        is_public = any(route.name == "promgate:console" for route in running.snapshot.routes)
        if console is not None and (is_public or settings.console_listen is not None):
            console.listen = settings.console_listen
    return tuple(waits)


def as_running(settings: Settings, running: Loaded) -> Settings:
    """With the listener of the console that is open, whatever becomes of its routes."""
    return settings._replace(console_listen=running.settings.console_listen)
