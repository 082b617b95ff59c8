"""Every row of the table of answers, and the order in which they are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.gate.ask import (
    ABSENT,
    BUSY,
    FOUND,
    LATE,
    REFUSED,
    UNREACHABLE,
    UNREADABLE,
    WAITED,
    CheckPassword,
    FindToken,
    VerifyJwt,
)
from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Identity, Local, Reason
from proxy.gate.snapshot import Bounds, RateLimit, RouteKind, Rule, TokenRules, Way
from proxy.tokens.configured import build_configured
from proxy.tokens.ports import Changes
from proxy.tokens.secret import digest
from proxy.tokens.token import TokenKind
from tests.gate.play import (
    AT,
    GRACE_S,
    GRAFANA,
    GRAFANA_SECRET,
    HASHES,
    IP,
    NOW,
    OPEN,
    OTHER_IP,
    READ,
    SENDER,
    SENDER_SECRET,
    SNAPSHOT,
    STRANGE_SECRET,
    WRITE,
    answered,
    ask,
    basic,
    bearer,
    claims,
    decide,
    gate,
    guess,
    head,
    jwt,
    memory,
    minted,
    read,
    write,
)

WRITER = Identity("token:sender", frozenset({"write"}), Way.WRITE_TOKEN, SENDER.id)
VIEWER = Identity("token:grafana", frozenset({"viewer"}), Way.BEARER, GRAFANA.id)
ANN = Identity("basic:ann", frozenset({"admin"}), Way.BASIC)
CAROL = Identity("jwt:carol", frozenset({"viewer"}), Way.JWT)
CAROL_WRITES = Identity("jwt:carol", frozenset({"viewer", "write"}), Way.JWT)


# a write token on a write route: the table of 1-product, section 6


@pytest.mark.parametrize(
    ("facts", "reason", "status"),
    [
        ({}, Reason.OK, 200),
        ({"current_from": None}, Reason.OK, 200),  # pending, once minted
        ({"accepted_until": NOW + 1}, Reason.OK, 200),  # previous, inside the overlap
        ({"expires_at": NOW + 1}, Reason.OK, 200),
        ({"accepted_until": NOW}, Reason.TOKEN_RETIRED, 503),
        ({"accepted_until": NOW - GRACE_S + 1}, Reason.TOKEN_RETIRED, 503),
        ({"expires_at": NOW - 1}, Reason.TOKEN_RETIRED, 503),
        ({"accepted_until": NOW + 9, "expires_at": NOW - 1}, Reason.TOKEN_RETIRED, 503),
        ({"accepted_until": NOW - GRACE_S}, Reason.TOKEN_ENDED, 401),
        ({"expires_at": NOW - GRACE_S}, Reason.TOKEN_ENDED, 401),
        ({"accepted_until": NOW - 1, "expires_at": NOW - GRACE_S - 1}, Reason.TOKEN_ENDED, 401),
        ({"revoked_at": NOW - 1}, Reason.TOKEN_REVOKED, 401),
        ({"revoked_at": NOW + 9}, Reason.TOKEN_REVOKED, 401),  # for good, whatever the clock says
        ({"revoked_at": NOW - 1, "accepted_until": NOW - 1}, Reason.TOKEN_REVOKED, 401),
    ],
)
def test_a_write_token_in_each_state(facts, reason, status):
    token, secret = minted("sender", **facts)
    a_gate = gate(tokens=[token])
    for _ in range(20):  # no state of a known token is a guess, so no number of them locks anybody out
        decision, questions = ask(a_gate, write(), bearer(secret))
        assert questions == []
        who = replace(WRITER, token_id=token.id)
        if reason is Reason.OK:
            assert decision == Forward(WRITE, who)
        else:
            assert decision == Deny(reason, WRITE, identity=who)
            assert answered(decision)[0] == status
    _, strange = minted("nobody")
    assert decide(a_gate, write(), bearer(strange), answers=[ABSENT]).reason is Reason.BAD_CREDENTIAL


@pytest.mark.parametrize("scheme", [bearer, lambda secret: basic("anybody", secret), lambda secret: basic("", secret)])
def test_a_token_may_stand_as_the_basic_password(scheme):
    assert decide(gate(), write(), scheme(SENDER_SECRET)) == Forward(WRITE, WRITER)


def test_known_but_not_for_this_route():
    assert decide(gate(), read(), bearer(SENDER_SECRET)) == Deny(Reason.NOT_ALLOWED, READ, identity=WRITER)
    reader_writes = decide(gate(), write(), bearer(GRAFANA_SECRET))
    assert reader_writes == Deny(Reason.NOT_ALLOWED, WRITE, identity=VIEWER)
    status, fields, _ = answered(reader_writes)
    assert (status, set(fields)) == (403, {"Content-Type", "Content-Length"})


def test_known_but_not_in_this_way():
    route = replace(READ, ways=frozenset({Way.BASIC}))
    for secret in (GRAFANA_SECRET, SENDER_SECRET):
        assert decide(gate(routes=(route,)), read(), bearer(secret)).reason is Reason.NOT_ALLOWED


def test_a_reader_reads():
    assert decide(gate(), read(), bearer(GRAFANA_SECRET)) == Forward(READ, VIEWER)
    assert decide(gate(), read("POST"), bearer(GRAFANA_SECRET)) == Deny(Reason.NOT_ALLOWED, READ, identity=VIEWER)


def test_a_reader_that_has_ended_is_not_held():
    """Nothing of a reader's is lost with a 401."""
    token, secret = minted("grafana", TokenKind.READER, accepted_until=NOW - 1)
    assert decide(gate(tokens=[token]), read(), bearer(secret)).reason is Reason.TOKEN_ENDED


def test_any_token_that_writes_is_held():
    """A write route may take reader tokens too; its senders drop their data on a 401 like the others."""
    token, secret = minted("grafana", TokenKind.READER, accepted_until=NOW - 1)
    route = replace(WRITE, ways=frozenset({Way.BEARER}))
    assert decide(gate(tokens=[token], routes=(route,)), write(), bearer(secret)).reason is Reason.TOKEN_RETIRED


@pytest.mark.parametrize("route", [READ, replace(WRITE, ways=frozenset({Way.JWT}))])
def test_a_write_token_off_its_route_is_not_held(route):
    token, secret = minted("sender", accepted_until=NOW - 1)
    request = read() if route is READ else write()
    assert decide(gate(tokens=[token], routes=(route,)), request, bearer(secret)).reason is Reason.TOKEN_ENDED


def test_without_a_credential():
    denied = decide(gate(), write())
    assert denied == Deny(Reason.NO_CREDENTIAL, WRITE)
    assert answered(denied)[0] == 401
    assert decide(gate(), head("/open/x", "GET")) == Forward(OPEN, Identity("anyone", frozenset({"anyone"}), Way.NONE))


def test_an_open_route_takes_no_notice_of_credentials():
    shown = bearer(b"wrong")
    assert decide(gate(), head("/open", "GET"), shown).identity.name == "anyone"


# what is not in memory


def test_a_token_that_may_be_new_is_looked_for_once():
    shown = bearer(STRANGE_SECRET)
    decision, questions = ask(gate(), write(), shown, answers=[ABSENT])
    assert questions == [FindToken(digest(STRANGE_SECRET))]
    assert decision == Deny(Reason.BAD_CREDENTIAL, WRITE)


def test_a_token_that_was_found_is_judged_anew():
    token, secret = minted("late", revoked_at=NOW - 1)
    fresh, fresh_secret = minted("fresh")
    a_gate = gate()
    for one, clear, reason in [(token, secret, Reason.TOKEN_REVOKED), (fresh, fresh_secret, Reason.OK)]:
        _, questions = ask(a_gate, write(), bearer(clear))
        a_gate_memory(a_gate).book.apply(Changes(a_gate_memory(a_gate).book.generation + 1, (one,)))
        decision = a_gate.decide(write(), bearer(clear), IP, AT, NOW, {questions[0]: FOUND})
        assert reason is getattr(decision, "reason", Reason.OK)


def a_gate_memory(a_gate):
    return a_gate._identify.__self__._memory


def test_a_token_is_not_looked_for_where_none_is_taken():
    route = replace(WRITE, ways=frozenset({Way.JWT}))
    decision, questions = ask(gate(routes=(route,)), write(), bearer(STRANGE_SECRET))
    assert (decision.reason, questions) == (Reason.WAY_NOT_OPEN, [])


@pytest.mark.parametrize("secret", [b"", b"x", b"pgw_", STRANGE_SECRET[:-1] + b"!", STRANGE_SECRET[:-1], b"s.3.cret"])
def test_what_cannot_be_ours_is_not_looked_for(secret):
    decision, questions = ask(gate(), write(), bearer(secret))
    assert questions == []
    assert decision == Deny(Reason.BAD_CREDENTIAL, WRITE)


@pytest.mark.parametrize(
    ("tokens", "readable", "answers", "reason"),
    [
        ([], True, [], Reason.STORE_EMPTY),
        ([], False, [], Reason.STORE_EMPTY),
        ([SENDER], False, [], Reason.STORE_UNREADABLE),
        ([SENDER], True, [UNREADABLE], Reason.STORE_UNREADABLE),
    ],
)
def test_who_cannot_tell_does_not_say_no(tokens, readable, answers, reason):
    decision = decide(gate(tokens=tokens, readable=readable), write(), bearer(STRANGE_SECRET), answers=answers)
    assert decision == Deny(reason, WRITE)
    status, fields, _ = answered(decision)
    assert status == 503
    assert 5 <= int(fields["Retry-After"]) <= 30


def test_any_token_waits_for_a_lost_store():
    assert decide(gate(tokens=[]), write(), bearer(b"not even ours")) == Deny(Reason.STORE_EMPTY, WRITE)


def new_store(*tokens, age_s=0.0, **changes):
    return gate(tokens=tokens or [SENDER], made_at=NOW - age_s, **changes)


@pytest.mark.parametrize(
    ("age_s", "reason"),
    [
        (-60.0, Reason.STORE_NEW),
        (0.0, Reason.STORE_NEW),
        (GRACE_S - 1, Reason.STORE_NEW),
        (GRACE_S, Reason.BAD_CREDENTIAL),
    ],
)
def test_the_first_token_of_a_new_store_does_not_make_the_other_senders_drop_their_data(age_s, reason):
    """The volume was lost, and one sender has its new token."""
    decision, questions = ask(new_store(age_s=age_s), write(), bearer(STRANGE_SECRET), answers=[ABSENT])
    assert (decision, len(questions)) == (Deny(reason, WRITE), 1)
    status, fields, _ = answered(decision)
    assert status == (503 if reason is Reason.STORE_NEW else 401)
    if status == 503:
        assert 5 <= int(fields["Retry-After"]) <= 30


@pytest.mark.parametrize("secret", [b"not even ours", STRANGE_SECRET[:-1]])
def test_what_no_store_can_have_held_is_wrong_for_a_new_one_too(secret):
    assert decide(new_store(), write(), bearer(secret)) == Deny(Reason.BAD_CREDENTIAL, WRITE)


def test_a_new_store_lets_in_whom_it_knows_and_says_no_to_whom_it_knows():
    ended, secret = minted("late", revoked_at=NOW - 1)
    one = new_store(SENDER, ended)
    assert decide(one, write(), bearer(SENDER_SECRET)) == Forward(WRITE, WRITER)
    assert decide(one, write(), bearer(secret)).reason is Reason.TOKEN_REVOKED


def test_a_new_store_is_no_excuse_for_a_reader_and_none_where_nothing_is_held():
    assert decide(new_store(), read(), bearer(STRANGE_SECRET), answers=[ABSENT]).reason is Reason.BAD_CREDENTIAL
    none = new_store(token_rules=TokenRules(retry_grace_s=0.0))
    assert decide(none, write(), bearer(STRANGE_SECRET), answers=[ABSENT]).reason is Reason.BAD_CREDENTIAL


def test_a_fleet_that_a_new_store_does_not_know_is_no_guesser_and_costs_few_looks():
    one, looks = new_store(), 0
    for _ in range(200):
        decision, questions = ask(one, write(), bearer(STRANGE_SECRET))
        looks += len(questions)
        if not questions:
            assert decision == Deny(Reason.STORE_NEW, WRITE, retry_after_s=30.0)
    assert looks == one.snapshot.bounds.held.burst
    # whoever logs in from the same address is not held up
    assert decide(one, read(), basic("ann", b"right"), answers=[HASHES[0]]) == Forward(READ, ANN)


def test_an_empty_store_is_no_excuse_for_a_reader():
    assert decide(gate(tokens=[]), read(), bearer(b"wrong")) == Deny(Reason.BAD_CREDENTIAL, READ)


def test_known_tokens_go_on_while_the_store_is_down():
    assert decide(gate(readable=False), write(), bearer(SENDER_SECRET)) == Forward(WRITE, WRITER)


# passwords


def test_a_password_is_checked_once_and_remembered():
    a_gate, shown = gate(), basic("ann", b"right")
    assert ask(a_gate, read(), shown, answers=[HASHES[0]]) == (Forward(READ, ANN), [CheckPassword(HASHES, b"right")])
    assert ask(a_gate, read("DELETE"), shown, at=AT + 59) == (Forward(READ, ANN), [])
    _, questions = ask(a_gate, read(), shown, at=AT + 60)
    assert questions == [CheckPassword(HASHES, b"right")]
    assert questions[0].was_right


def test_a_wrong_password_is_not_remembered():
    a_gate = gate()
    for _ in range(2):
        decision, questions = ask(a_gate, read(), basic("ann", b"wrong"), answers=[False])
        assert (decision, len(questions)) == (Deny(Reason.BAD_CREDENTIAL, READ), 1)


def test_an_unknown_user_costs_the_same_and_never_gets_in():
    (question,) = ask(gate(), read(), basic("mallory", b"x"))[1]
    assert question.password == b"x"
    assert [one[:7] for one in question.hashes] == [b"$2b$12$"] * 2
    assert not set(question.hashes) & {one for hashes in SNAPSHOT.users.values() for one in hashes}
    assert decide(gate(), read(), basic("mallory", b"x"), answers=[HASHES[0]]) == Deny(Reason.BAD_CREDENTIAL, READ)


def test_a_user_without_roles_is_known_and_may_nothing():
    a_gate = gate(roles={})
    assert decide(a_gate, read(), basic("ann", b"right"), answers=[HASHES[0]]).reason is Reason.NOT_ALLOWED


def test_too_many_at_once():
    busy = decide(gate(), read(), basic("ann", b"x"), answers=[BUSY])
    assert busy == Deny(Reason.BUSY, READ)
    assert answered(busy)[0] == 503


def test_a_password_is_not_tried_where_none_is_taken():
    decision, questions = ask(gate(), write(), basic("ann", b"right"))
    assert (decision, questions) == (Deny(Reason.WAY_NOT_OPEN, WRITE), [])


NO_TOKENS = replace(READ, ways=frozenset({Way.BASIC}))


@pytest.mark.parametrize(
    ("route", "shown"),
    [
        (NO_TOKENS, bearer(b"of-another-program")),
        (NO_TOKENS, bearer(STRANGE_SECRET)),
        (NO_TOKENS, jwt()),
        (replace(READ, ways=frozenset({Way.BEARER})), basic("ann", b"right")),
    ],
)
def test_what_a_route_does_not_take_is_not_looked_at_and_no_guess(route, shown):
    """A dashboard that is set up wrongly keeps nobody else at its address from logging in."""
    a_gate = gate(routes=(route,))
    told = [ask(a_gate, read(), shown) for _ in range(20)]
    assert [(decision.reason, questions) for decision, questions in told] == [(Reason.WAY_NOT_OPEN, [])] * 20
    nothing_good = decide(gate(routes=(route,)), read(), bearer(b"x"))
    assert answered(told[0][0]) == answered(nothing_good)


# JWT


@pytest.mark.parametrize(
    ("route", "changes", "reason", "status"),
    [
        (WRITE, {"writes": True}, Reason.OK, 200),
        (WRITE, {}, Reason.NOT_ALLOWED, 403),
        (WRITE, {"writes": True, "expires_at": NOW}, Reason.JWT_EXPIRED, 503),
        (WRITE, {"writes": True, "expires_at": NOW - 299}, Reason.JWT_EXPIRED, 503),
        (WRITE, {"writes": True, "expires_at": NOW - 300}, Reason.TOKEN_ENDED, 401),
        (WRITE, {"writes": True, "not_before": NOW + 60}, Reason.OK, 200),  # clocks differ
        (WRITE, {"writes": True, "not_before": NOW + 61}, Reason.JWT_EARLY, 503),
        (WRITE, {"writes": True, "not_before": NOW + 300}, Reason.JWT_EARLY, 503),
        (WRITE, {"writes": True, "not_before": NOW + 301}, Reason.BAD_CREDENTIAL, 401),
        (READ, {}, Reason.OK, 200),
        (READ, {"name": "jwt:dave"}, Reason.NOT_ALLOWED, 403),
        (READ, {"expires_at": NOW}, Reason.TOKEN_ENDED, 401),
        (READ, {"not_before": NOW + 61}, Reason.BAD_CREDENTIAL, 401),
        (READ, {"terms": "of before the reload"}, Reason.BAD_CREDENTIAL, 401),
    ],
)
def test_a_signed_token_in_each_state(route, changes, reason, status):
    a_gate, request = gate(), write() if route is WRITE else read()
    decision, questions = ask(a_gate, request, jwt(), answers=[claims(**changes)])
    assert questions == [VerifyJwt(jwt().text)]
    if reason is Reason.OK:
        assert decision == Forward(route, CAROL_WRITES if route is WRITE else CAROL)
    else:
        assert (decision.reason, decision.route) == (reason, route)
        assert answered(decision)[0] == status


@pytest.mark.parametrize("drift_s", [3 * 365 * 86400.0, -3600.0])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, Reason.OK),
        ({"expires_at": NOW}, Reason.JWT_EXPIRED),
        ({"expires_at": NOW - 300}, Reason.TOKEN_ENDED),
        ({"not_before": NOW + 61}, Reason.JWT_EARLY),
        ({"not_before": NOW + 301}, Reason.BAD_CREDENTIAL),
    ],
)
def test_what_an_issuer_has_dated_is_judged_by_the_machine_s_time_and_our_own_deadlines_by_ours(
    changes, reason, drift_s
):
    """The machine's clock was set right (NTP) after promgate had started: `now` is what it would have been else."""
    known = memory(SENDER)
    known.drift_s = drift_s
    a_gate = Gate(SNAPSHOT, known)
    decision, _ = ask(a_gate, write(), jwt(), now=NOW - drift_s, answers=[claims(writes=True, **changes)])
    assert (Reason.OK if isinstance(decision, Forward) else decision.reason) is reason
    known.book.apply(Changes(2, (replace(SENDER, accepted_until=NOW),)))
    assert isinstance(decide(a_gate, write(), bearer(SENDER_SECRET), now=NOW - 1), Forward)
    assert decide(a_gate, write(), bearer(SENDER_SECRET), now=NOW).reason is Reason.TOKEN_RETIRED


def test_a_signed_token_is_verified_once_and_its_end_is_judged_each_time():
    a_gate = gate()
    assert ask(a_gate, read(), jwt(), answers=[claims()])[1] == [VerifyJwt(jwt().text)]
    assert ask(a_gate, read(), jwt(), at=AT + 299, now=NOW + 299) == (Forward(READ, CAROL), [])
    assert ask(a_gate, read(), jwt(), at=AT + 299, now=NOW + 300)[0].reason is Reason.TOKEN_ENDED
    assert ask(a_gate, write(), jwt(), at=AT + 299, now=NOW + 300)[0].reason is Reason.JWT_EXPIRED


def test_a_key_that_was_withdrawn_is_believed_for_five_minutes():
    a_gate, lasting = gate(), claims(expires_at=NOW + 9999)
    decide(a_gate, read(), jwt(), answers=[lasting])
    assert ask(a_gate, read(), jwt(), at=AT + 299)[1] == []
    decision, questions = ask(a_gate, read(), jwt(), at=AT + 300, answers=[REFUSED])
    assert (decision.reason, len(questions)) == (Reason.BAD_CREDENTIAL, 1)


@pytest.mark.parametrize("route", [WRITE, READ])
@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (REFUSED, Reason.BAD_CREDENTIAL, 401),
        (BUSY, Reason.BUSY, 503),
        (UNREACHABLE, Reason.PROVIDER_UNREACHABLE, 503),
        (LATE, Reason.KEY_LATE, 503),
    ],
)
def test_a_signed_token_that_is_not_good_or_cannot_be_told(route, answer, reason, status):
    denied = decide(gate(), write() if route is WRITE else read(), jwt(), answers=[answer])
    assert denied == Deny(reason, route)
    assert answered(denied)[0] == status


def test_a_signed_token_where_none_is_taken():
    route = replace(WRITE, ways=frozenset({Way.WRITE_TOKEN}))
    assert ask(gate(routes=(route,)), write(), jwt()) == (Deny(Reason.WAY_NOT_OPEN, route), [])


def test_a_reload_ends_the_trust_in_an_issuer():
    a_gate = gate()
    decide(a_gate, read(), jwt(), answers=[claims()])
    after = Gate(replace(SNAPSHOT, jwt_issuers=()), a_gate_memory(a_gate))
    assert decide(after, read(), jwt(), answers=[REFUSED]) == Deny(Reason.BAD_CREDENTIAL, READ)
    # an answer that was on its way during the reload counts no more either
    assert decide(after, read(), jwt(), answers=[claims()]) == Deny(Reason.BAD_CREDENTIAL, READ)


# what is answered before anybody is asked who they are


@pytest.mark.parametrize(
    ("path", "method", "reason", "status"),
    [
        ("/", "GET", Reason.NO_ROUTE, 404),
        ("/prometheusX", "GET", Reason.NO_ROUTE, 404),
        ("/Prometheus", "GET", Reason.NO_ROUTE, 404),
        ("/-/healthyX", "GET", Reason.NO_ROUTE, 404),
        ("/prometheus/api/v1/admin/tsdb/snapshot", "POST", Reason.BLOCKED, 403),
        ("/prometheus/-/quit", "POST", Reason.BLOCKED, 403),
        ("/prometheus/-/reload", "POST", Reason.BLOCKED, 403),
        ("/prometheus/debug/pprof/heap", "GET", Reason.BLOCKED, 403),
        ("/prometheus/api/v1/read", "POST", Reason.BLOCKED, 403),
        ("/prometheus/api/v1/otlp/v1/metrics", "POST", Reason.BLOCKED, 403),
        ("/open/api/v1/write", "POST", Reason.BLOCKED, 403),
        ("/open/debug", "GET", Reason.BLOCKED, 403),
        ("/prometheus/api/v1/write", "GET", Reason.METHOD_NOT_TAKEN, 405),
        ("/prometheus/api/v1/write", "PUT", Reason.METHOD_NOT_TAKEN, 405),  # not the reader's route, which is shorter
        ("/prometheus/api/v1/write", "TRACE", Reason.METHOD_NOT_TAKEN, 405),
        ("/prometheus/x", "TRACE", Reason.METHOD_NOT_TAKEN, 405),
        ("/prometheus/x", "TRACK", Reason.METHOD_NOT_TAKEN, 405),
        ("/prometheus/x", "CONNECT", Reason.METHOD_NOT_TAKEN, 405),
        ("/open", "TRACE", Reason.METHOD_NOT_TAKEN, 405),
        ("/prometheus/x", "get", Reason.METHOD_UNKNOWN, 501),
        ("/prometheus/x", "BREW", Reason.METHOD_UNKNOWN, 501),
        ("/prometheus/api/v1/write", "post", Reason.METHOD_UNKNOWN, 501),
    ],
)
def test_refused_whoever_it_is(path, method, reason, status):
    a_gate = gate()
    for shown in (None, bearer(SENDER_SECRET), bearer(STRANGE_SECRET), basic("ann", b"x"), jwt()):
        decision, questions = ask(a_gate, head(path, method), shown)
        assert (decision.reason, questions) == (reason, [])
        assert answered(decision)[0] == status


@pytest.mark.parametrize("path", ["/prometheus/debugger", "/prometheus/api/v1/writer", "/prometheus/-/reloaded"])
def test_what_only_looks_dangerous_is_not_blocked(path):
    assert isinstance(decide(gate(), head(path, "GET"), bearer(GRAFANA_SECRET)), Forward)


def test_405_says_what_is_taken():
    assert answered(decide(gate(), head(method="GET")))[1]["Allow"] == "POST"
    allow = answered(decide(gate(), head("/prometheus", "TRACE")))[1]["Allow"]
    assert allow == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_told_to_anybody(path, method):
    a_gate = gate(routes=(replace(READ, path="/"),))
    assert decide(a_gate, head(path, method)) == Local(Reason.HEALTH)
    # who may use this path of the upstream's does not take it from the others
    assert isinstance(decide(a_gate, head(path, "POST"), basic("ann", b"x"), answers=[HASHES[0]]), Forward)
    assert decide(a_gate, head(path, method)) == Local(Reason.HEALTH)


def test_options_of_the_server_itself():
    assert decide(gate(), head("*", "OPTIONS")) == Local(Reason.OPTIONS)


def test_a_path_that_was_open_to_one_is_judged_for_the_next():
    """The memory of paths holds routes, never permissions."""
    a_gate = gate()
    assert isinstance(decide(a_gate, read(), bearer(GRAFANA_SECRET)), Forward)
    assert decide(a_gate, read(), None).reason is Reason.NO_CREDENTIAL
    assert decide(a_gate, read("POST"), bearer(GRAFANA_SECRET)).reason is Reason.NOT_ALLOWED
    assert decide(a_gate, read("TRACE"), bearer(GRAFANA_SECRET)).reason is Reason.METHOD_NOT_TAKEN


# may they, how large, how often


@pytest.mark.parametrize(
    ("rules", "method", "allowed"),
    [
        ((), "GET", False),  # P10
        ((Rule("viewer"),), "DELETE", True),
        ((Rule("viewer", frozenset({b"GET"})),), "GET", True),
        ((Rule("viewer", frozenset({b"GET"})),), "HEAD", False),
        ((Rule("admin"), Rule("viewer", frozenset({b"PUT"}))), "PUT", True),
        ((Rule("anyone"),), "GET", False),
        ((Rule("write"),), "GET", False),
    ],
)
def test_rules(rules, method, allowed):
    decision = decide(gate(routes=(replace(READ, rules=rules),)), read(method), bearer(GRAFANA_SECRET))
    assert isinstance(decision, Forward) is allowed


@pytest.mark.parametrize(("length", "reason"), [(1000, Reason.OK), (1001, Reason.BODY_TOO_LARGE)])
def test_a_body_has_its_bound(length, reason):
    decision = decide(gate(), write(length), bearer(SENDER_SECRET))
    assert getattr(decision, "reason", Reason.OK) is reason
    assert decide(gate(), write(1001), bearer(b"wrong")).reason is Reason.BAD_CREDENTIAL


def limited(**how):
    limit = RateLimit(rate=1, interval_s=1.0, burst=2, **how)
    return replace(WRITE, rate_limit=limit)


def test_over_its_rate_a_sender_is_refused():
    route = limited()
    a_gate = gate(routes=(route,))
    decisions = [decide(a_gate, write(), bearer(SENDER_SECRET)) for _ in range(4)]
    assert decisions[:2] == [Forward(route, WRITER)] * 2
    assert decisions[2:] == [Deny(Reason.OVER_RATE, route, 1.0, WRITER)] * 2
    assert answered(decisions[3])[0] == 503
    assert decide(a_gate, write(), bearer(SENDER_SECRET), at=AT + 1) == Forward(route, WRITER)


def test_or_delayed_first():
    route = limited(max_delay_s=2.0)
    a_gate = gate(routes=(route,))
    waits = [decide(a_gate, write(), bearer(SENDER_SECRET)) for _ in range(5)]
    assert waits[:4] == [Forward(route, WRITER, wait_s) for wait_s in (0.0, 0.0, 1.0, 2.0)]
    assert waits[4] == Deny(Reason.OVER_RATE, route, 3.0, WRITER)


def test_who_has_waited_is_not_charged_again_but_judged_again():
    a_gate = gate(routes=(limited(max_delay_s=2.0),))
    while not decide(a_gate, write(), bearer(SENDER_SECRET)).wait_s:
        pass
    waited = {WAITED: True}
    for _ in range(9):
        decision = a_gate.decide(write(), bearer(SENDER_SECRET), IP, AT + 1, NOW + 1, waited)
        assert decision == Forward(a_gate.snapshot.routes[0], WRITER)
    a_gate_memory(a_gate).book.apply(Changes(2, (replace(SENDER, revoked_at=NOW),)))
    assert a_gate.decide(write(), bearer(SENDER_SECRET), IP, AT + 1, NOW + 1, waited).reason is Reason.TOKEN_REVOKED


@pytest.mark.parametrize("by_identity", [True, False])
def test_a_rate_is_counted_by_identity_or_by_address(by_identity):
    other, other_secret = minted("other")
    a_gate = gate(tokens=[SENDER, other], routes=(limited(by_identity=by_identity),))

    def refused(secret, ip):
        return isinstance(decide(a_gate, write(), bearer(secret), ip=ip), Deny)

    assert [refused(SENDER_SECRET, IP) for _ in range(3)] == [False, False, True]
    assert refused(SENDER_SECRET, OTHER_IP) is by_identity
    assert refused(other_secret, IP) is not by_identity


def test_a_customer_has_one_network_of_addresses():
    a_gate = gate(routes=(limited(by_identity=False),))
    ips = ["2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8::3%eth0", "2001:db8:0:1::1"]
    decisions = [decide(a_gate, write(), bearer(SENDER_SECRET), ip=ip) for ip in ips]
    assert [isinstance(decision, Deny) for decision in decisions] == [False, False, True, False]


def test_nobody_is_delayed_before_they_are_known():
    """No free parked connections: a wait is for who was let in (invariant 9)."""
    a_gate = gate(routes=(limited(max_delay_s=9.0),))
    for _ in range(20):
        for shown in (None, bearer(b"wrong"), bearer(STRANGE_SECRET), jwt()):
            assert not isinstance(decide(a_gate, write(), shown), Forward)
    assert decide(a_gate, write(), bearer(SENDER_SECRET)).wait_s == 0.0


def test_a_reload_does_not_forgive():
    a_gate = gate(routes=(limited(),))
    for _ in range(2):
        decide(a_gate, write(), bearer(SENDER_SECRET))
    after = Gate(replace(SNAPSHOT, routes=(limited(), READ)), a_gate_memory(a_gate))
    assert decide(after, write(), bearer(SENDER_SECRET)).reason is Reason.OVER_RATE
    changed = Gate(replace(SNAPSHOT, routes=(limited(max_delay_s=1.0),)), a_gate_memory(a_gate))
    assert isinstance(decide(changed, write(), bearer(SENDER_SECRET)), Forward)


# guesses: the limit of this gate is four at once, and one a second


def guesses(a_gate, shown, count, answer=None, request=None, **kwargs):
    """The reasons of `count` guesses; `answer` is given where the gate asks."""
    return [guess(a_gate, request or read(), shown, answer, **kwargs)[0].reason for _ in range(count)]


BAD, MANY = Reason.BAD_CREDENTIAL, Reason.TOO_MANY_GUESSES


@pytest.mark.parametrize(
    ("shown", "answer"),
    [
        (basic("ann", b"wrong"), False),
        (basic("mallory", b"x"), False),
        (bearer(STRANGE_SECRET), ABSENT),
        (jwt(), REFUSED),
    ],
    ids=["password", "user", "token", "jwt"],
)
def test_a_wrong_guess_is_charged_twice(shown, answer):
    a_gate = gate()
    assert guesses(a_gate, shown, 4, answer) == [BAD, BAD, MANY, MANY]
    assert ask(a_gate, read(), shown)[1] == []  # and no work is done for it any more


def test_a_guess_that_needed_no_work_is_charged_once():
    assert guesses(gate(), bearer(b"wrong"), 6) == [BAD, BAD, BAD, BAD, MANY, MANY]


def test_a_right_guess_is_charged_once():
    a_gate = gate()
    for number in range(4):
        shown = basic("ann", b"right%d" % number)
        assert isinstance(decide(a_gate, read(), shown, answers=[HASHES[0]]), Forward)
    assert decide(a_gate, read(), basic("ann", b"right9")).reason is MANY


def test_guesses_are_told_to_wait():
    a_gate = gate()
    guesses(a_gate, bearer(b"wrong"), 9)
    reader, writer = decide(a_gate, read(), bearer(b"wrong")), decide(a_gate, write(), bearer(b"wrong"))
    assert (answered(reader)[0], answered(writer)[0]) == (429, 503)
    assert answered(reader)[1]["Retry-After"]
    assert guesses(a_gate, bearer(b"wrong"), 1, at=AT + 60) == [BAD]


def test_a_guesser_does_not_lock_out_his_neighbours():
    """Behind one NAT with him: known tokens, and passwords and signed tokens that were right before, at any time."""
    a_gate, ann = gate(), basic("ann", b"right")
    decide(a_gate, read(), ann, answers=[HASHES[0]])
    decide(a_gate, read(), jwt(), answers=[claims(expires_at=NOW + 9999)])
    for later in (0.0, 30.0, 4000.0):
        at = AT + later
        assert guesses(a_gate, bearer(b"wrong"), 9, at=at)[-1] is MANY
        assert decide(a_gate, write(), bearer(SENDER_SECRET), at=at) == Forward(WRITE, WRITER)
        assert decide(a_gate, read(), bearer(GRAFANA_SECRET), at=at) == Forward(READ, VIEWER)
        fresh = [] if later < 60 else [HASHES[0]]
        assert decide(a_gate, read(), ann, at=at, answers=fresh) == Forward(READ, ANN)
        fresh = [] if later < 300 else [claims(expires_at=NOW + 9999)]
        assert decide(a_gate, read(), jwt(), at=at, answers=fresh) == Forward(READ, CAROL)
        assert decide(a_gate, read(), basic("ann", b"other"), at=at).reason is MANY
    assert guesses(a_gate, bearer(b"wrong"), 1, ip=OTHER_IP) == [BAD]


def test_a_signed_token_that_went_bad_becomes_a_guess():
    a_gate = gate()
    decide(a_gate, read(), jwt(), answers=[claims(expires_at=NOW + 9999)])
    reasons = guesses(a_gate, jwt(), 4, REFUSED, at=AT + 400)
    assert reasons == [BAD, BAD, MANY, MANY]


def test_held_senders_are_no_guessers():
    token, secret = minted("sender", accepted_until=NOW - 1)
    a_gate = gate(tokens=[token])
    decide(a_gate, write(), jwt(), answers=[claims(expires_at=NOW - 1)])
    for _ in range(50):
        assert decide(a_gate, write(), bearer(secret)).reason is Reason.TOKEN_RETIRED
        assert decide(a_gate, write(), jwt()).reason is Reason.JWT_EXPIRED
    assert guesses(a_gate, bearer(b"wrong"), 1) == [BAD]


def test_a_held_sender_that_asks_too_often_is_told_the_longest_wait_and_no_other_sender_is():
    token, secret = minted("sender", accepted_until=NOW - 1)
    a_gate = gate(tokens=[token, GRAFANA], bounds=Bounds(held=RateLimit(1, 1.0, 3)))

    def waits(ip, at=AT):
        denial = decide(a_gate, write(), bearer(secret), ip=ip, at=at)
        status, fields, _ = answered(denial, jitter=0.0)
        assert (denial.reason, status) == (Reason.TOKEN_RETIRED, 503)
        return int(fields["Retry-After"])

    assert [waits(IP) for _ in range(5)] == [5, 5, 5, 30, 30]
    assert waits(OTHER_IP) == 5
    assert waits(IP, AT + 3) == 5


@pytest.mark.parametrize("shown", [bearer(b""), basic("a", b"x\0y"), jwt()])
def test_what_no_way_takes_costs_nobody_anything(shown):
    route = replace(READ, ways=frozenset({Way.BASIC}))
    a_gate = gate(routes=(route,))
    for _ in range(9):
        assert answered(decide(a_gate, read(), shown))[0] == 401
    assert guesses(a_gate, basic("ann", b"wrong"), 1, False) == [BAD]


def test_the_order_of_the_checks():
    """route -> who -> what is dear, within the limit for guesses -> may they -> how large -> how often (invariant 9).

    Whoever fails at one place is not charged at a later one, and nothing is asked for whom an earlier one refuses.
    """
    route = replace(limited(by_identity=False), ways=frozenset({Way.WRITE_TOKEN, Way.BASIC}))
    a_gate = gate(routes=(route, READ))
    for _ in range(9):
        assert ask(a_gate, head(method="PUT"), basic("ann", b"x")) == (Deny(Reason.METHOD_NOT_TAKEN, route), [])
        assert decide(a_gate, write(), None).reason is Reason.NO_CREDENTIAL
        assert decide(a_gate, write(), bearer(GRAFANA_SECRET)).reason is Reason.NOT_ALLOWED
        assert decide(a_gate, write(1001), bearer(SENDER_SECRET)).reason is Reason.BODY_TOO_LARGE
    # a known token has spent no guess, and nobody above has spent of the address's rate
    assert guesses(a_gate, basic("ann", b"wrong"), 3, False, write()) == [BAD, BAD, MANY]
    assert [type(decide(a_gate, write(), bearer(SENDER_SECRET))) for _ in range(3)] == [Forward, Forward, Deny]


# the answers


def test_all_kinds_of_wrong_get_one_answer():
    """A12: who guesses learns nothing of what was right before, or half right."""
    revoked, revoked_secret = minted("revoked", revoked_at=NOW - 1)
    ended, ended_secret = minted("ended", accepted_until=NOW - GRACE_S - 1)
    for route, request in ((replace(WRITE, ways=WRITE.ways | {Way.BASIC}), write()), (READ, read())):
        a_gate = gate(tokens=[revoked, ended], routes=(route,), bounds=Bounds())
        told = [
            decide(a_gate, request, bearer(revoked_secret)),
            decide(a_gate, request, bearer(ended_secret)),
            decide(a_gate, request, bearer(STRANGE_SECRET), answers=[ABSENT]),
            decide(a_gate, request, bearer(b"wrong")),
            decide(a_gate, request, bearer(b"")),
            decide(a_gate, request, basic("ann", b"wrong"), answers=[False]),
            decide(a_gate, request, basic("mallory", b"x"), answers=[False]),
            decide(a_gate, request, jwt("a"), answers=[REFUSED]),
            decide(a_gate, request, jwt("b"), answers=[claims(expires_at=NOW - 9999)]),
        ]
        assert [answered(each) for each in told] == [answered(told[0])] * len(told)
        assert answered(told[0])[0] == 401


def test_a_write_route_is_bare():
    """No redirect, no cookie, no HTML: one line that says what to do, and a challenge with a 401."""
    status, fields, body = answered(decide(gate(), write(), bearer(b"wrong")))
    assert (status, set(fields)) == (401, {"WWW-Authenticate", "Content-Type", "Content-Length"})
    assert fields["WWW-Authenticate"] == 'Bearer realm="promgate"'
    assert fields["Content-Type"].startswith("text/plain")
    assert body.count("\n") == 1
    assert "token" in body


def test_every_kind_of_route_is_looked_at_here():
    assert {route.kind for route in (WRITE, READ)} == set(RouteKind)


# tokens that the configuration lists

LISTED, LISTED_BEFORE = build_configured("edge", (digest(b"a secret of others"), digest(SENDER_SECRET)))
EDGE = Identity("token:edge", frozenset({"write"}), Way.WRITE_TOKEN, LISTED.id)


def listing_gate(*listings, tokens=(), has_store=False, made_at=0.0, grace=GRACE_S, readable=True):
    """One that took these configurations, one each second up to NOW; each is a tuple of tokens."""
    known = memory(*tokens, made_at=made_at, readable=readable)
    known.book.has_store = has_store
    for place, listed in enumerate(listings):
        known.book.configure(listed, NOW - len(listings) + 1 + place, grace)
    return Gate(replace(SNAPSHOT, token_rules=TokenRules(retry_grace_s=grace)), known)


def test_a_listed_token_writes_whatever_its_form_and_its_place():
    one = listing_gate((LISTED, LISTED_BEFORE))
    assert ask(one, write(), bearer(b"a secret of others")) == (Forward(WRITE, EDGE), [])
    other = replace(EDGE, token_id=LISTED_BEFORE.id)
    assert ask(one, write(), bearer(SENDER_SECRET)) == (Forward(WRITE, other), [])
    assert ask(one, write(), basic("anyone", SENDER_SECRET)) == (Forward(WRITE, other), [])
    assert decide(one, read(), bearer(SENDER_SECRET)) == Deny(Reason.NOT_ALLOWED, READ, identity=other)


@pytest.mark.parametrize(
    ("ago", "grace", "reason", "status"),
    [
        (0.0, GRACE_S, Reason.TOKEN_RETIRED, 503),
        (GRACE_S - 1, GRACE_S, Reason.TOKEN_RETIRED, 503),
        (GRACE_S, GRACE_S, Reason.TOKEN_ENDED, 401),
        (0.0, 0.0, Reason.TOKEN_ENDED, 401),
    ],
)
def test_a_listed_token_that_a_reload_took_away_is_held_for_the_grace(ago, grace, reason, status):
    one = listing_gate((LISTED,), (), grace=grace)
    denied = decide(one, write(), bearer(b"a secret of others"), now=NOW + ago)
    assert (denied.reason, denied.identity, answered(denied)[0]) == (reason, EDGE, status)
    assert answered(decide(one, read(), bearer(b"a secret of others"), now=NOW + ago))[0] == 401


@pytest.mark.parametrize(
    ("tokens", "has_store", "made_at", "reason"),
    [
        ((), False, 0.0, Reason.BAD_CREDENTIAL),  # there is none that could have been lost
        ((), True, 0.0, Reason.STORE_EMPTY),
        ((GRAFANA,), True, NOW, Reason.STORE_NEW),
        ((GRAFANA,), True, 0.0, Reason.BAD_CREDENTIAL),
    ],
)
def test_a_store_beside_the_listed_tokens_may_have_been_lost_all_the_same(tokens, has_store, made_at, reason):
    one = listing_gate((LISTED,), tokens=tokens, has_store=has_store, made_at=made_at)
    assert guess(one, write(), bearer(STRANGE_SECRET), ABSENT)[0].reason is reason
    assert decide(one, write(), bearer(b"a secret of others")) == Forward(WRITE, EDGE)


def test_a_listed_token_goes_on_while_the_store_cannot_be_read():
    one = listing_gate((LISTED,), has_store=True, readable=False)
    assert decide(one, write(), bearer(b"a secret of others")) == Forward(WRITE, EDGE)


def test_a_revocation_in_the_store_is_not_taken_back_by_a_file():
    one = listing_gate((LISTED_BEFORE,), tokens=(replace(SENDER, revoked_at=NOW - 1),), has_store=True)
    assert decide(one, write(), bearer(SENDER_SECRET)).reason is Reason.TOKEN_REVOKED
