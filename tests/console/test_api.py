"""The admin API through the gate: what the desk does, who may ask for it, and how it says no."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from pathlib import Path

import pytest

from proxy.console import openapi
from proxy.console.fields import Field, read_body, read_limit
from proxy.console.operations import OPERATIONS
from proxy.gate.guessers import Guessers, Refused
from proxy.tokens.ledger import Known, Sighting
from proxy.tokens.ports import StoreError
from tests.console.stage import BOB, control
from tests.desk.play import Canary, Ledger, Stage
from tests.relay.stage import both_loops, on_a_loop, until

API = "/-/api/v1"
DOCS = Path(__file__).parents[2] / "docs"
SECRET = re.compile(r"pg[wr]_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}")


async def made(site, name="prom", **said):
    answer = await site.ask("POST", f"{API}/tokens", body={"name": name, **said})
    assert answer.status == 201, answer.text
    return answer.json


@on_a_loop
async def test_who_guesses_too_much_is_told_to_admins_and_needs_no_store():
    async with control() as site:
        addresses = tuple(Refused(f"192.0.2.{n}", 2.5 - n) for n in range(2))
        site.guessers = Guessers(addresses, (Refused("ann", 1.0),), 2, 1, 7)
        answer = await site.ask("GET", f"{API}/guessers?limit=1")
        assert (answer.status, answer.json) == (200, {
            "addresses": [{"address": "192.0.2.0", "seconds": 2.5}], "users": [{"user": "ann", "seconds": 1.0}],
            "address_count": 2, "user_count": 1, "unknown_names": 7,
        })  # fmt: skip
        assert (await site.ask("GET", f"{API}/guessers?limit=0")).status == 400
        assert (await site.ask("GET", f"{API}/guessers", BOB)).status == 403
        assert (await site.ask("POST", f"{API}/guessers", body={})).status == 405
        assert "192.0.2.0" in (await site.ask("GET", "/-/console")).text
        assert "Too many guesses" not in (await site.ask("GET", "/-/console", BOB)).text


@both_loops
@on_a_loop
async def test_a_token_s_life(loop):
    stage = Stage()
    async with control(stage.desk()) as site:
        first = await made(site)
        assert SECRET.fullmatch(first["secret"])
        assert stage.store.find(hashlib.sha256(first["secret"].encode()).digest()).name == "prom"
        (row,) = (await site.ask("GET", f"{API}/tokens")).json["tokens"]
        assert (row["name"], row["kind"], row["state"], row["id"]) == ("prom", "write", "current", first["token"])

        rotated = await site.ask("POST", f"{API}/tokens/prom/rotate", body={"overlap": "10m"})
        assert (rotated.status, rotated.json["failure"]) == (200, None)
        assert SECRET.fullmatch(rotated.json["secret"])
        assert rotated.json["receipts"].keys() == {"api"}
        assert stage.states() == ["previous", "current"]
        status = (await site.ask("GET", f"{API}/tokens/prom/status")).json
        assert status["current"] == rotated.json["token"]
        assert status["rotation"]["id"] == rotated.json["rotation"]
        one = await site.ask("GET", f"{API}/rotations/{rotated.json['rotation']}")
        assert one.json["phase"] == "done"
        assert len((await site.ask("GET", f"{API}/rotations?limit=1")).json["rotations"]) == 1

        back = await site.ask("POST", f"{API}/tokens/prom/rollback", body={})
        assert back.json["tokens"] == {first["token"]: "current", rotated.json["token"]: "previous"}
        one = await site.ask("POST", f"{API}/tokens/prom/revoke", body={"token": rotated.json["token"]})
        assert one.json["revoked"] == [rotated.json["token"]]
        assert stage.states() == ["current", "revoked"]
        rest = await site.ask("POST", f"{API}/tokens/prom/revoke", body={})
        assert rest.json["revoked"] == [first["token"]]
        shown = (await site.ask("GET", f"{API}/tokens/prom")).json["tokens"]
        assert [token["state"] for token in shown] == ["revoked", "revoked"]


@on_a_loop
async def test_a_secret_is_told_once_and_nowhere_else(caplog):
    caplog.set_level("DEBUG")
    stage = Stage()
    async with control(stage.desk()) as site:
        secrets = [(await made(site))["secret"]]
        secrets.append((await site.ask("POST", f"{API}/tokens/prom/rotate", body={})).json["secret"])
        for path in ("tokens", "tokens/prom", "tokens/prom/status", "rotations", "due"):
            answer = await site.ask("GET", f"{API}/{path}")
            assert not SECRET.search(answer.text)
            assert answer.fields["cache-control"] == "no-store"
        for secret in secrets:
            assert secret not in caplog.text
            assert secret not in repr(site.outcomes)
        assert "createToken by basic:ann from 127.0.0.1" in caplog.text


@on_a_loop
async def test_a_token_in_the_place_of_a_name_is_not_repeated(caplog):
    async with control(Stage().desk()) as site:
        secret = (await made(site))["secret"]
        for method, path in (("GET", "status"), ("POST", "rotate"), ("POST", "revoke")):
            answer = await site.ask(method, f"{API}/tokens/{secret}/{path}", body={} if method == "POST" else None)
            assert (answer.status, "not a name" in answer.json["detail"]) == (400, True)
            assert secret not in answer.text + caplog.text


@on_a_loop
async def test_where_there_are_targets_it_goes_there_and_is_shown_if_asked():
    stage = Stage("file:a")
    async with control(stage.desk()) as site:
        assert "secret" not in await made(site)
        assert (await site.ask("POST", f"{API}/tokens/prom/rotate", body={})).json["receipts"].keys() == {"file:a"}
        shown = (await site.ask("POST", f"{API}/tokens/prom/rotate", body={"show": True})).json
        assert shown["receipts"].keys() == {"file:a", "api"}
        assert stage.targets[0].holds == hashlib.sha256(shown["secret"].encode()).digest()


@pytest.mark.parametrize("by", ["header", "quoted", "body"])
@on_a_loop
async def test_the_same_key_again_ends_with_one_successor(by):
    stage = Stage("file:a")
    async with control(stage.desk()) as site:
        await made(site)

        def rotate():
            if by == "body":
                return site.ask("POST", f"{API}/tokens/prom/rotate", body={"id": "week-48"})
            key = '"week-48"' if by == "quoted" else "week-48"
            return site.ask("POST", f"{API}/tokens/prom/rotate", body={}, Idempotency_Key=key)

        first, again = await rotate(), await rotate()
        assert (first.status, again.status) == (200, 200)
        assert again.json["token"] == first.json["token"]
        assert first.json["rotation"] == "week-48"
        assert stage.states() == ["previous", "current"]
        shown = await site.ask("POST", f"{API}/tokens/prom/rotate", body={"id": "week-48", "show": True})
        assert shown.status == 409
        assert "cannot be had again" in shown.json["detail"]


@on_a_loop
async def test_a_rotation_that_halts_is_taken_up_by_its_key():
    stage = Stage("file:a")
    async with control(stage.desk()) as site:
        await made(site)
        stage.targets[0].fails = "before"
        halted = await site.ask("POST", f"{API}/tokens/prom/rotate", body={}, Idempotency_Key="k")
        assert halted.status == 502
        assert "the disk is full" in halted.json["detail"]
        other = await site.ask("POST", f"{API}/tokens/prom/rotate", body={})
        assert other.status == 409
        assert "--id k" in other.json["detail"]
        stage.targets[0].fails = None
        assert (await site.ask("POST", f"{API}/tokens/prom/rotate", body={}, Idempotency_Key="k")).status == 200


@on_a_loop
async def test_a_canary_that_fails_leaves_all_as_it_was():
    stage = Stage()
    async with control(stage.desk()) as site:
        await made(site)
        stage.canary = Canary()
        stage.canary.fails = "push"
        refused = await site.ask("POST", f"{API}/tokens/prom/rotate", body={})
        assert (refused.status, "secret" in refused.json) == (502, False)
        assert stage.states() == ["current", "revoked"]


@on_a_loop
async def test_a_token_is_proven_on_demand_and_never_shown():
    stage = Stage()
    async with control(stage.desk()) as site:
        first = await made(site)
        path, shown = f"{API}/tokens/prom/verify", {"secret": first["secret"]}
        assert (await site.ask("POST", path, body=shown)).status == 400, "no canary is configured"
        stage.canary = Canary()
        proven = await site.ask("POST", path, body=shown)
        assert (proven.status, proven.json["token"], proven.json["state"]) == (200, first["token"], "current")
        assert first["secret"] not in proven.text
        assert (await site.ask("POST", path, body={})).status == 400, "no file to read it from"
        assert (await site.ask("POST", path, body={"secret": "pgw_unknown"})).status == 404
        stage.canary.fails = "query"
        refused = await site.ask("POST", path, body=shown)
        assert (refused.status, "step query" in refused.text) == (502, True)


@on_a_loop
async def test_two_rotations_at_once_are_one():
    """K8. The second is told which one is in its way."""
    stage = Stage("file:a")
    async with control(stage.desk()) as site:
        await made(site)
        entered, release = threading.Event(), threading.Event()

        def wait(_):
            entered.set()
            release.wait(10)

        stage.targets[0].on_deliver = wait
        import asyncio  # noqa: PLC0415

        first = asyncio.create_task(site.ask("POST", f"{API}/tokens/prom/rotate", body={}))
        await until(entered.is_set)
        second = await site.ask("POST", f"{API}/tokens/prom/rotate", body={})
        page = await site.ask("GET", "/-/console")
        release.set()
        assert second.status == 409
        assert page.status == 200, "nobody waits for the one that does"
        assert (await first).status == 200


@on_a_loop
async def test_a_leaked_token_is_replaced_and_who_used_it_is_told():
    stage = Stage("file:a")
    stage.ledger = Ledger()
    async with control(stage.desk()) as site:
        first = await made(site, show=True)
        stage.ledger.seen = (
            Sighting("prom", first["token"], "10.0.0.7", "10.0.0.7", "vmagent", stage.now - 60, stage.now, 12),
        )
        told = await site.ask("POST", f"{API}/leaked", body={"secret": first["secret"]})
        assert told.status == 200, told.text
        assert told.json["leaked"] == first["token"]
        assert [row["address"] for row in told.json["used_by"]] == ["10.0.0.7"]
        assert stage.states() == ["revoked", "current"]
        assert first["secret"] not in told.text
        unknown = await site.ask("POST", f"{API}/leaked", body={"digest": "0" * 64})
        assert unknown.status == 404
        for wrong in ({}, {"secret": "x", "digest": "0" * 64}, {"digest": "zz"}):
            assert (await site.ask("POST", f"{API}/leaked", body=wrong)).status == 400


@on_a_loop
async def test_an_overlap_ends_when_the_ledger_says_so_or_by_force():
    stage = Stage()
    stage.ledger = Ledger()
    async with control(stage.desk()) as site:
        first = await made(site)
        stage.ledger.as_known = Known((), since=stage.now - 7200)
        stage.ledger.seen = (
            Sighting("prom", first["token"], "10.0.0.7", "10.0.0.7", "vmagent", stage.now, stage.now + 30, 12),
        )
        (seen,) = (await site.ask("GET", f"{API}/tokens/prom/senders")).json["senders"]
        assert (seen["address"], seen["requests"], seen["kind"]) == ("10.0.0.7", 12, "used")
        await site.ask("POST", f"{API}/tokens/prom/rotate", body={})
        stage.now += 60
        waits = await site.ask("POST", f"{API}/tokens/prom/finish", body={})
        assert waits.status == 409
        status = (await site.ask("GET", f"{API}/tokens/prom/status")).json
        assert (status["verdict"], [one["address"] for one in status["stragglers"]]) == ("WAIT", ["10.0.0.7"])
        forced = await site.ask("POST", f"{API}/tokens/prom/finish", body={"force": True})
        assert (forced.status, forced.json["ended"]) == (200, [first["token"]])
        assert stage.states() == ["retired", "current"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/tokens", {"name": "prom"}, 409),
        ("POST", "/tokens", {"name": "a b"}, 400),
        ("POST", "/tokens", {"name": "x", "kind": "admin"}, 400),
        ("POST", "/tokens", {"name": "x", "expires": "soon"}, 400),
        ("POST", "/tokens", {"name": "x", "expires": "0s"}, 400),
        ("POST", "/tokens", {"name": "x", "show": "yes"}, 400),
        ("POST", "/tokens", {"name": "x", "nmae": "y"}, 400),
        ("POST", "/tokens", {}, 400),
        ("POST", "/tokens", [], 400),
        ("POST", "/tokens", b"{", 400),
        ("POST", "/tokens", b"\xff", 400),
        ("POST", "/tokens", b"[" * 10_000, 400),
        ("POST", "/tokens", {"name": "\ud800"}, 400),
        ("POST", "/tokens/none/rotate", {}, 404),
        ("POST", "/tokens/none/revoke", {}, 404),
        ("POST", "/tokens/none/rollback", {}, 404),
        ("POST", "/tokens/prom/rollback", {}, 409),
        ("POST", "/tokens/prom/rotate", {"overlap": "9999d"}, 400),
        ("POST", "/tokens/prom/rotate", {"id": "a b"}, 400),
        ("POST", "/tokens/prom/revoke", {"token": "none"}, 404),
        ("GET", "/tokens/none", None, 404),
        ("GET", "/tokens/none/status", None, 404),
        ("GET", "/tokens/none/senders", None, 404),
        ("POST", "/tokens/prom/finish", {}, 409),
        ("GET", "/tokens/a%20b", None, 404),
        ("GET", "/tokens?x=1", None, 400),
        ("GET", "/rotations/none", None, 404),
        ("GET", "/rotations?limit=0", None, 400),
        ("GET", "/rotations?limit=x", None, 400),
        ("GET", "/none", None, 404),
        ("POST", "/rotations", {}, 405),
        ("GET", "/leaked", None, 405),
    ],
)
@on_a_loop
async def test_no_is_said_as_a_problem_and_changes_nothing(method, path, body, status):
    stage = Stage()
    async with control(stage.desk()) as site:
        await made(site)
        before = stage.tokens()
        answer = await site.ask(method, API + path, body=body)
        assert answer.status == status, answer.text
        assert answer.fields["content-type"].startswith("application/problem+json")
        assert answer.json["status"] == status
        assert answer.json["detail"]
        assert stage.tokens() == before
        assert stage.store.names() == ["prom"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@on_a_loop
async def test_it_is_for_admins(method):
    stage = Stage()
    async with control(stage.desk()) as site:
        await made(site)
        for operation in OPERATIONS:
            path = API + operation.path.replace("{name}", "prom").replace("{rotation}", "x")
            body = {} if method == "POST" else None
            assert (await site.ask(method, path, BOB, body=body)).status == 403
            assert (await site.ask(method, path, None, body=body)).status == 401
        assert stage.states() == ["current"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=application/json"}, 415),
        ({"Content_Type": ""}, 415),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
    ],
)
@on_a_loop
async def test_no_page_of_another_site_mints(fields, status):
    """G2: what a browser may send without asking is refused, whatever it knows its visitor by."""
    stage = Stage()
    async with control(stage.desk()) as site:
        await made(site)
        answer = await site.ask("POST", f"{API}/tokens/prom/rotate", body={}, **fields)
        assert answer.status == status
        assert len(stage.tokens()) == 1 + (status == 200)


@on_a_loop
async def test_a_store_that_cannot_be_read_is_not_now():
    stage = Stage()
    async with control(stage.desk()) as site:

        def broken():
            raise StoreError("promgate.db: the disk failed")

        stage.store.names = broken
        answer = await site.ask("GET", f"{API}/tokens")
        assert (answer.status, answer.fields["retry-after"]) == (503, "5")
        assert "the disk failed" in answer.json["detail"]
    async with control(None) as site:
        assert (await site.ask("GET", f"{API}/tokens")).status == 404


@on_a_loop
async def test_a_change_that_the_server_does_not_take_is_told():
    stage = Stage()
    async with control(stage.desk()) as site:
        await made(site)
        stage.server_fails = True
        answer = await site.ask("POST", f"{API}/tokens/prom/revoke", body={})
        assert answer.status == 200
        assert "does not use it yet" in answer.json["failure"]


# The description


def test_the_description_in_docs_is_up_to_date():
    page = json.loads((DOCS / "openapi.json").read_text())
    assert page == openapi.describe(), "run: python -m proxy.console.openapi > docs/openapi.json"


@on_a_loop
async def test_it_is_served_with_its_own_address():
    async with control(None) as site:
        told = (await site.ask("GET", f"{API}/openapi.json")).json
        assert told["openapi"] == "3.1.0"
        assert told["servers"] == [{"url": API}]
        assert (await site.ask("GET", f"{API}/openapi.json", BOB)).status == 403


def test_every_operation_is_described_once():
    told = openapi.describe()["paths"]
    ids = [each["operationId"] for methods in told.values() for each in methods.values()]
    assert sorted(ids) == sorted(operation.id for operation in OPERATIONS)
    assert len(set(ids)) == len(ids)


# Reading


def test_a_body_says_only_what_it_may():
    fields = (Field("name", "string", "a name", is_required=True, most=3), Field("on", "boolean", "whether"))
    assert read_body(b' {"name": "x", "on": false}', fields) == {"name": "x", "on": False}
    for wrong in ('{"name": ""}', '{"name": "long"}', '{"name": 1}', '{"name": null}', '{"name": "x", "on": 1}', ""):
        with pytest.raises(ValueError):
            read_body(wrong.encode(), fields)
    with pytest.raises(ValueError, match="taken are: nothing"):
        read_body(b'{"x": 1}', ())
    with pytest.raises(ValueError) as told:
        read_body(b'{"name": "pgw_secret"}', fields)
    assert "pgw_secret" not in str(told.value)
    assert (read_limit({}, 9, 5), read_limit({"limit": "9"}, 9, 5)) == (5, 9)
    for wrong in ("10", "-1", "٣", "1e1", "0" * 9 + "1"):
        with pytest.raises(ValueError):
            read_limit({"limit": wrong}, 9, 5)
