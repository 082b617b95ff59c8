"""Plays one case against a relay and judges what both sides saw. A complaint is an AssertionError that shows bytes."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from tests.attacks.case import Act
from tests.attacks.client import Answer, Client
from tests.attacks.recorder import DEFAULT_BODY

if TYPE_CHECKING:
    from tests.attacks.case import Case, Verdict
    from tests.attacks.recorder import Recorder
    from tests.attacks.relay import Target

_PROBES = itertools.count(1)


def play(case: Case, target: Target, *, split: bool = False) -> None:
    """One case, then a fresh request on a new connection; where the connection stays open, one on it as well."""
    recorder, address = target.recorder, target.relay.address
    recorder.begin(case.upstream_answers, at_head=case.answer_at_head)
    token = target.token.encode()
    request = tuple(s.replace(b"{token}", token) if isinstance(s, bytes) else s for s in case.request)
    with Client(address) as client:
        client.is_old = b" HTTP/1.0\r\n" in b"".join(step for step in request if isinstance(step, bytes))
        client.send(request, split=split, until_upstream=lambda: recorder.wait_for(recorder.holds_head))
        if isinstance(case.request[-1], Act) and case.request[-1] in {Act.RESET, Act.CLOSE}:
            verdict = case.verdicts[0]
        else:
            verdict = judge_client(case, client, read_answers(case, client), recorder)
        probe(address, target.hello)
        judge_upstream(case, verdict, recorder)
    complaints = target.relay.complaints()
    assert not complaints, complaints


def read_answers(case: Case, client: Client) -> list[Answer]:
    """All final answers until one of the verdicts is fulfilled and the connection may live on, or until it ends."""
    answers: list[Answer] = []
    methods = itertools.chain(case.methods, itertools.repeat("GET"))
    method = next(methods)
    while True:
        answer = client.read_answer(method)
        if answer is None:
            return answers
        if 100 <= answer.status < 200:
            continue
        answers.append(answer)
        method = next(methods)
        if answer.closes or not answer.complete:
            client.half_close()  # an answer that closes is the last: the relay need not linger for us
            rest = client.read_to_end()
            assert not rest, f"after the last answer: {rest!r}"
            return answers
        more = any(len(v.answers) > len(answers) for v in case.verdicts)
        if not client.closed_by_us and not more and any(not v.end and fulfils(v, answers) for v in case.verdicts):
            return answers


def fulfils(verdict: Verdict, answers: list[Answer]) -> bool:
    """True if the final answers are those of the verdict (the upstream's side is judged elsewhere)."""
    expected = len(verdict.answers)
    if len(answers) < expected:
        return False
    for word, answer in zip(verdict.answers, answers, strict=False):
        if word == "ABORT":
            if answer.complete:
                return False
        elif not answer.complete or str(answer.status) != word:
            return False
    rest = answers[expected:]
    if verdict.end in {"REJ", "CUT"}:
        return len(rest) == 1 and rest[0].status in verdict.end_statuses and rest[0].complete and rest[0].closes
    return not rest


def judge_client(case: Case, client: Client, answers: list[Answer], recorder: Recorder) -> Verdict:
    """The verdict that the client's side fulfils."""
    seen = bytes(client.received)
    assert "500" in case.expect or not any(answer.status == 500 for answer in answers), f"a 500: {seen!r}"
    aborted = client.ended and not answers
    if case.upstream_closed:  # before anything else is sent: only an idle connection can be told to be bad
        assert recorder.wait_for(lambda: all(c.end for c in recorder.touched())), "the upstream connection is kept"
    for verdict in case.verdicts:
        gone = aborted and (verdict.answers == ("ABORT",) or (verdict.end == "CUT" and client.closed_by_us))
        if not gone and not fulfils(verdict, answers):
            continue
        if verdict.end or client.closed_by_us or (answers and answers[-1].closes):
            assert client.ended or client.closed_by_us, f"the connection stays open after {seen!r}"
            if verdict.end in {"REJ", "CLOSE"}:
                assert client.ended == "fin", f"the answer may be lost: the connection ended by {client.ended}"
        elif not client.ended:
            probe_on(client)
        judge_answers(case, verdict, answers, seen)
        return verdict
    raise AssertionError(f"{case.expect!r}, but the client got {seen!r} and then {client.ended or 'nothing'}")


def judge_answers(case: Case, verdict: Verdict, answers: list[Answer], seen: bytes) -> None:
    """Bytes and bodies where the case tells them; else a 200 carries the upstream's body whole."""
    if verdict.end == "REJ" and not verdict.requests:
        return
    if case.client_sees is not None and verdict is case.verdicts[0]:
        # Each request has an id of its own, which a refusal tells; all else is the same for everybody.
        seen = re.sub(rb"X-Request-Id: [0-9a-f]{16}\r\n", b"", seen)
        assert seen == case.client_sees, f"client got {seen!r}, not {case.client_sees!r}"
    if case.client_body is not None and verdict is case.verdicts[0]:
        assert answers[0].body == case.client_body
    if not case.upstream_answers and case.client_sees is None:
        heads = itertools.chain(case.methods, itertools.repeat("GET"))
        for method, answer in zip(heads, answers, strict=False):
            if answer.status == 200:
                assert answer.body == (b"" if method == "HEAD" else DEFAULT_BODY)


def judge_upstream(case: Case, verdict: Verdict, recorder: Recorder) -> None:
    """The upstream saw what the verdict says, to the byte, and nothing else."""
    assert recorder.wait_for(lambda: len(recorder.requests()) >= verdict.requests)
    whole = [request.raw for request in recorder.requests()]
    assert not recorder.malformed(), f"the relay wrote {recorder.malformed()}"
    assert len(whole) == verdict.requests, f"{case.expect!r}, but upstream saw {whole!r}"
    unfinished = recorder.unfinished()
    cut_short = verdict.end == "CUT" or case.answer_at_head
    assert not unfinished or cut_short, f"a part of a request upstream: {unfinished!r}"
    if verdict.requests and case.upstream_sees is not None:
        assert b"".join(whole) == case.upstream_sees
    if case.upstream_closed or (cut_short and unfinished) or {"ABORT", "502"} & set(verdict.answers):
        touched = recorder.touched()
        ended = recorder.wait_for(lambda: all(c.end for c in touched))
        assert ended, "the upstream connection is kept after a fault"


def probe_request(number: int) -> bytes:
    return b"GET /probe/%d HTTP/1.1\r\nHost: promgate.test\r\n\r\n" % number


def probe(relay: tuple[str, int], hello: bytes = b"") -> None:
    """A fresh request on a new connection, which begins with `hello`, gets its own answer."""
    with Client(relay) as client:
        probe_on(client, hello)


def probe_on(client: Client, hello: bytes = b"") -> None:
    """The next answer on this connection is the one to the next request on it."""
    number = next(_PROBES)
    client.send((hello + probe_request(number),))
    while (answer := client.read_answer()) is not None and answer.status < 200:
        pass
    assert answer is not None, f"the connection was promised to stay, but ended by {client.ended}"
    assert (answer.status, answer.body) == (200, b"/probe/%d" % number), f"not its own answer: {answer.raw!r}"
