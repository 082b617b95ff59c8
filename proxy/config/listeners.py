"""Where promgate listens: every address held against every other, before one of them fails to be bound.

Each listener of the process is a socket of its own, so none may have what another has already: `:9443` is every address
of the machine, `127.0.0.1:9443` among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.config.units import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.problem import Report
    from proxy.config.schema import Config
    from proxy.config.units import Address

_V4, _V6 = "0.0.0.0", "::"


def check_listeners(config: Config, report: Report) -> None:
    """The public ones; then what the others need beside them."""
    if not config.listen and report.is_sound("listen"):
        report.problem("listen", "at least one address is needed")
    if config.redirect_http is not None and not config.redirect_http.listen and report.is_sound("redirect_http.listen"):
        report.problem("redirect_http.listen", "at least one address is needed")
    _check_clear(config, report)
    taken: list[tuple[str, Address]] = []
    for option, address in _listeners(config, report):
        other = next(((name, each) for name, each in taken if collide(each, address)), None)
        taken.append((option, address))
        if other is not None and report.is_sound(option, other[0]):
            report.problem(option, _say(option, address, *other))


def _listeners(config: Config, report: Report) -> Iterator[tuple[str, Address]]:
    for index, address in enumerate(config.listen):
        path = f"listen[{index}]"
        yield path if path in report.lines else "listen", address
    if config.redirect_http is not None:
        for address in config.redirect_http.listen:
            yield "redirect_http.listen", address
    if config.console is not None and config.console.enabled and config.console.listen is not None:
        yield "console.listen", config.console.listen
    if config.telemetry is not None:
        yield "telemetry.listen", config.telemetry.listen


def collide(one: Address, other: Address) -> bool:
    if one.port != other.port or one.port == 0:
        return False
    return one.host == other.host or _covers(one.host, other.host) or _covers(other.host, one.host)


def _covers(wide: str, host: str) -> bool:
    """Whether who listens on `wide` has `host`, too. Of a name it is certain of localhost alone, and of IPv4."""
    if wide == "localhost":
        return host == "127.0.0.1"
    is_v6 = ":" in host
    return wide == "" or (wide == _V4 and not is_v6) or (wide == _V6 and is_v6)


def _say(option: str, address: Address, other: str, theirs: Address) -> str:
    if option.startswith("listen") and address == theirs:
        return f"{address} is written twice"
    if other.startswith("listen"):
        there = "a public listener" if address == theirs else f"taken by the public listener {theirs}"
        return f"{address} is {there} already; take another port"
    return f"{address} is taken by {other} already; take another port"


def _check_clear(config: Config, report: Report) -> None:
    has_tls = config.tls_server_config is not None
    for index, address in enumerate(config.listen):
        path = f"listen[{index}]" if f"listen[{index}]" in report.lines else "listen"
        if not has_tls and not is_loopback(address.host) and report.is_sound("tls_server_config"):
            if config.insecure_plaintext:
                report.warning(path, f"{address} speaks without TLS: passwords and tokens cross the network in clear")
            elif report.is_sound("insecure_plaintext"):
                report.problem(
                    path,
                    f"other machines reach {address}, and there is no TLS: write tls_server_config, listen on "
                    "127.0.0.1, or write insecure_plaintext: true",
                )
    if config.insecure_plaintext and has_tls:
        report.warning("insecure_plaintext", "without effect: there is a tls_server_config")
