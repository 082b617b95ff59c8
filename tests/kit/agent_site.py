"""The headline's stage: a counter, an agent that scrapes it, promgate, and a receiver that keeps what came through."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.kit.counter import CounterTarget
from tests.kit.prometheus import Agent, Receiver
from tests.kit.promgate import Promgate, deliver, issue_client, write_route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class AgentSite(NamedTuple):
    """All of it running; `token_file` is where the agent reads its token, `secret` the one that lies there at first."""

    receiver: Receiver
    promgate: Promgate
    target: CounterTarget
    agent: Agent
    token_file: Path
    secret: str


@contextmanager
def agent_site(
    directory: Path,
    tokens: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    *,
    series: int = 0,
    client: str = "",
    port: int | None = None,
) -> Iterator[AgentSite]:
    """An agent with a token of the name `agent`, delivering; `tokens` is that section of promgate's configuration.

    `more` are other sections of it. `series` is how many the target has beside its counter, `port` the receiver's.
    `client`: the agent shows a certificate of that name, of promgate's own CA, in `promgate/certs`.
    """
    token_file = directory / "token"
    with Receiver(directory / "receiver", port) as receiver:
        routes = [write_route(f"http://127.0.0.1:{receiver.port}")]
        promgate = Promgate(directory / "promgate", {"tokens": dict(tokens or {}), "routes": routes, **(more or {})})
        secret = promgate.token("create", "agent", "--print")
        certs = promgate.ca_file.parent
        if client:
            issue_client(certs, client)
        deliver(secret, token_file)
        with (
            promgate,
            CounterTarget(series=series) as target,
            Agent(
                directory / "agent",
                target=target.address,
                url=promgate.write_url,
                credentials_file=token_file,
                ca_file=promgate.ca_file,
                tls={"cert_file": f"{certs}/{client}.crt", "key_file": f"{certs}/{client}.key"} if client else None,
            ) as agent,
        ):
            yield AgentSite(receiver, promgate, target, agent, token_file, secret)
