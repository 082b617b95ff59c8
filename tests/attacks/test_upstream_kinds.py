"""What an upstream answers is judged alike on every kind of route: section 4 played again on the other kinds.

`test_corpus.py` plays these cases on a plain route over TCP. Here the same request goes below a prefix that is taken
off again, so that the upstream has to see the same bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.attacks.case import Act, parse_verdict
from tests.attacks.play import play
from tests.attacks.test_corpus import CASES

if TYPE_CHECKING:
    from tests.attacks.case import Case
    from tests.attacks.relay import Target

#: Kind -> the target, the prefix, and the cases that end otherwise there, which other tests hold: a Location gets its
#: prefix back (tests/e2e/test_prefixes.py), a write is told no redirect and is sent again where nobody answered
#: (U07-write-302, test_behaviour.py), and a unix socket has no reset: its close in a body without a length is an end.
KINDS: dict[str, tuple[str, bytes, set[str]]] = {
    "stripped": ("stripped_target", b"/stripped", {"U07-302"}),
    "remote_write": ("stripped_target", b"/pushed", {"U07-302", "U06-post-close-at-once", "U06-post-reset-at-once"}),
    "websocket": ("stripped_target", b"/talking", {"U07-302"}),
    "https": ("https_target", b"/stripped", {"U07-302"}),
    "several": ("several_target", b"/stripped", {"U07-302"}),
    "unix socket": ("socket_target", b"/stripped", {"U07-302", "U04-until-close-reset"}),
}
#: Those that write by themselves, or ask for a websocket, have their own kind of route already.
_ELSEWHERE = (b" /write ", b" /live/")
UPSTREAM_CASES = [
    case
    for case in CASES
    if case.ids[0].startswith("U") and not any(target in case.request[0] for target in _ELSEWHERE)
]
PLAYS = [(kind, case) for kind, (_, _, other) in KINDS.items() for case in UPSTREAM_CASES if case.name not in other]


def below(case: Case, prefix: bytes) -> Case:
    """The same requests, below the prefix."""
    target = b" " + prefix + b"/x "
    moved = tuple(step.replace(b" /x ", target) if isinstance(step, bytes) else step for step in case.request)
    assert moved != case.request
    return replace(case, request=moved)


@pytest.mark.parametrize(("kind", "case"), PLAYS, ids=[f"{kind}-{case.name}" for kind, case in PLAYS])
def test_case(kind: str, case: Case, request: pytest.FixtureRequest) -> None:
    target, prefix, _ = KINDS[kind]
    play(below(case, prefix), request.getfixturevalue(target))


def test_what_was_cut_off_on_its_way_is_not_taken_for_whole(https_target: Target) -> None:
    """RFC 9112 9.8: where an answer ends with the connection, a FIN that anybody can forge must not be its end."""
    (lawful,) = [case for case in UPSTREAM_CASES if case.name == "U04-lawful-until-close"]
    (answer,) = lawful.upstream_answers
    cut = replace(
        below(lawful, b"/stripped"),
        verdicts=(parse_verdict("ONE ABORT"),),
        upstream_answers=((*answer[:-1], Act.CUT),),
        client_body=None,
    )
    play(cut, https_target)
