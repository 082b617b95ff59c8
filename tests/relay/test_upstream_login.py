"""An upstream that does not take promgate's own login: nobody else's fault, so nobody else is told 401."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from proxy.gate.snapshot import UpstreamLogin
from tests.relay.stage import OK, answering, both_loops, get, on_a_loop, post, stage, upstream

OWN = UpstreamLogin("promgate", "first")


def refusal(status):
    return b"HTTP/1.1 %d No\r\nWWW-Authenticate: Basic\r\nContent-Length: 6\r\n\r\nnobody" % status


def with_login(login):
    def change(snapshot):
        return replace(
            snapshot, routes=tuple(replace(r, upstream=r.upstream._replace(login=login)) for r in snapshot.routes)
        )

    return change


@pytest.mark.parametrize(
    ("login", "path", "status", "told"),
    [
        (OWN, "/write", 401, 502),
        (OWN, "/write", 407, 502),
        (OWN, "/write", 403, 502),
        (OWN, "/x", 401, 502),
        (OWN, "/x", 407, 502),
        (OWN, "/x", 403, 403),
        (None, "/write", 401, 502),
        (None, "/write", 403, 403),
        (None, "/x", 401, 401),
        (OWN, "/write", 400, 400),
        (OWN, "/x", 404, 404),
    ],
)
@on_a_loop
async def test_what_is_said_of_our_own_login_reaches_no_client(login, path, status, told):
    async with (
        upstream(answering(refusal(status))) as origin,
        stage(origin.port, change=with_login(login)) as relay,
    ):
        client = await relay.client(post(path, b"data", relay.bearer) if path == "/write" else get(path))
        answer = await client.message()
        assert answer.status == told
        if told == 502:
            assert answer.get("www-authenticate") == ""
            assert 5 <= int(answer.get("retry-after")) <= 30
            assert answer.body == b"promgate: the upstream does not take promgate's own login; see promgate's log\n"
            assert await relay.reasons(1) == ["upstream_login"]


@both_loops
@on_a_loop
async def test_a_changed_secret_is_shown_at_once_and_told_of_once(tmp_path, caplog, loop):
    """No poll runs here: the refusal alone makes it be read again."""
    caplog.set_level(logging.INFO, "promgate.upstream")
    secret = tmp_path / "password"
    secret.write_text("first\n")
    taken = UpstreamLogin("promgate", "second", str(secret))

    async def script(peer):
        while True:
            asked = await peer.message()
            shown = asked.get("authorization")
            await peer.send(OK if shown == "Basic cHJvbWdhdGU6c2Vjb25k" else refusal(401))

    async with (
        upstream(script) as origin,
        stage(origin.port, change=with_login(replace(taken, secret="first"))) as relay,
    ):
        client = await relay.client()
        for _ in range(3):
            await client.send(post("/write", b"data", relay.bearer))
            assert (await client.message()).status == 502
        secret.write_text("")
        await client.send(post("/write", b"data", relay.bearer))
        assert (await client.message()).status == 502, "an empty file changes nothing"
        secret.write_text("second\n")
        told = set()
        while 200 not in told:  # a look that was under way may have found it before the next request
            await client.send(post("/write", b"data", relay.bearer))
            told.add((await client.message()).status)
        assert told <= {200, 502}
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    told = (
        f"upstream 127.0.0.1:{origin.port} answered 401: it does not take promgate's own login; requests get 502 "
        f"until it does: put the right credential into {secret}, which is read again"
    )
    assert errors == [told]
    assert "first" not in caplog.text
