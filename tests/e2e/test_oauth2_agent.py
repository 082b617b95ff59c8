"""A Prometheus with `oauth2:` in its remote_write, as its documentation has it: tokens of seconds, and an outage.

The provider is a real one (oidc-provider). Once its tokens are JWTs, checked by the keys that discovery finds; once
they are opaque, and it is asked about each. Not an integer of the counter may be missing.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.counter import CounterTarget, losses, wait_stored
from tests.kit.fetch import bearer, fetch
from tests.kit.prometheus import Agent, Receiver
from tests.kit.promgate import Promgate, write_route
from tests.kit.providers import AUDIENCE, CLIENT, INTROSPECTOR, INTROSPECTOR_SECRET, SECRET, OidcProvider
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.real

#: Go's client takes a new token 10 s before the end of the old one: with 12 s it has a new one every 2 s.
TTL_S = 12
#: (renewals before the outage, scrapes within it, renewals after it); `make soak` asks for the long form.
RENEWALS, AWAY, AFTER = (6, 20, 4) if os.environ.get("PROMGATE_SOAK") else (3, 6, 1)

JWT = {
    "jwt": {"issuer": "PROVIDER", "audience": AUDIENCE, "algorithms": "ES256", "typ": "at+jwt"},
    "routes": [{"auth": ["jwt"]}],
}
OPAQUE = {
    "introspection": {
        "issuer": "PROVIDER",
        "audience": AUDIENCE,
        "client_id": INTROSPECTOR,
        "client_secret": INTROSPECTOR_SECRET,
    },
    "routes": [{"auth": ["introspection"]}],
}


def _config(written: Mapping[str, Any], provider: OidcProvider, receiver: Receiver) -> dict[str, Any]:
    config = {
        name: {key: provider.base if value == "PROVIDER" else value for key, value in section.items()}
        for name, section in written.items()
        if name != "routes"
    }
    return {**config, "routes": [{**write_route(f"http://127.0.0.1:{receiver.port}"), **written["routes"][0]}]}


@pytest.mark.parametrize(("written", "identity"), [(JWT, "jwt:agent"), (OPAQUE, "introspection:client_id=agent")])
def test_an_agent_that_fetches_its_tokens_loses_nothing(
    tmp_path: Path, written: Mapping[str, Any], identity: str
) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET)
    with (
        OidcProvider(tmp_path / "provider", ttl_s=TTL_S, is_jwt=written is JWT) as provider,
        Receiver(tmp_path / "receiver") as receiver,
        Promgate(tmp_path / "promgate", _config(written, provider, receiver)) as promgate,
        CounterTarget() as target,
        Agent(
            tmp_path / "agent",
            target=target.address,
            url=promgate.write_url,
            ca_file=promgate.ca_file,
            oauth2={
                "client_id": CLIENT,
                "client_secret_file": str(secret_file),
                "token_url": f"{provider.base}/token",
                "scopes": ["write"],
            },
        ) as agent,
    ):
        _wait_issued(provider, RENEWALS)
        wait_stored(receiver, target.served)
        provider.go_away()
        target.wait_served(target.served + AWAY)
        provider.come_back()
        _wait_issued(provider, provider.issued + AFTER)
        wait_stored(receiver, target.served, timeout_s=60)

        assert losses(receiver) == []
        assert agent.given_up == 0
        of_agent = [line for line in promgate.requests() if line["agent"].startswith("Prometheus/")]
        # Nothing but success and "not now".
        assert {line["status"] for line in of_agent} <= {204, 503}
        assert {line["identity"] for line in of_agent if line["status"] == 204} == {identity}

        def write(token: str) -> int:
            answer = fetch(
                promgate.write_url, method="POST", body=b"x", headers=bearer(token), ca_file=promgate.ca_file
            )
            return answer.status

        # The same provider's word for somebody who may not write, and a token that it never gave.
        assert write(provider.grant("stranger", "stranger-secret", scope="read")) == 403
        token = provider.grant(scope="write")
        assert write(token[:-6] + "AAAAAA") == 401
        told = promgate.log + json.dumps(promgate.requests())
        assert not [secret for secret in (token, INTROSPECTOR_SECRET, SECRET) if secret in told]
        provider.go_away()
        assert write(token[:-6] + "BBBBBB") == (401 if written is JWT else 503)


def _wait_issued(provider: OidcProvider, number: int) -> None:
    wait_for(lambda: provider.issued >= number, f"{number} tokens issued", timeout_s=120.0)
