"""The harness itself: it reads its files exactly, and it is not content with a proxy that passes all that it gets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.attacks.case import Act, CaseError, load_cases, parse_steps, parse_verdict
from tests.attacks.client import Client
from tests.attacks.naive import NaiveProxy
from tests.attacks.play import play
from tests.attacks.recorder import Malformed, Recorder, message_end
from tests.attacks.relay import Target
from tests.attacks.test_corpus import CASES

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Section of the threat list -> its last id.
LAST = {"H": 41, "U": 12, "P": 12, "S": 5, "A": 12}
#: What raw bytes cannot show, since it is a matter of time, load or memory -> the test that shows it.
ELSEWHERE = {
    "U12": ("attacks/test_behaviour.py", "test_an_upstream_that_is_away"),
    "A07": ("login/test_passwords.py", "test_an_unknown_user_takes_as_long_as_a_known_one"),
    "A08": ("gate/test_verified.py", "CVE-2022-46146"),
    "A09": ("gate/test_guards.py", "test_who_is_known_is_never_locked_out"),
    "A10": ("e2e/test_login_flood.py", "test_a_flood_of_logins_slows_nobody_who_is_known"),
}


@pytest.fixture(scope="module")
def naive() -> Iterator[Target]:
    patience = pytest.MonkeyPatch()
    patience.setattr(Client, "patience_s", 0.5)  # it never ends a connection by itself
    recorder = Recorder()
    recorder.patience_s = 0.5
    proxy = NaiveProxy(recorder.address)
    yield Target(proxy, recorder, "token")
    proxy.stop()
    recorder.stop()
    patience.undo()


@pytest.mark.parametrize(
    "name",
    [
        "H01-cl-then-te",  # refused: it must not be served
        "H11-te-underscore",  # ONE: a field too many upstream
        "H14-late",  # CUT: malformed upstream
        "H26-version[2]",
        "H34-second-not-authorised",
        "H38-hop-by-hop[te]",
        "S01-identity-names",
        "U01-length[minus]",  # 502: the client must not see it
        "U03-after-length",
        "U10-named",
    ],
)
def test_a_proxy_that_believes_everything_fails(name: str, naive: Target) -> None:
    case = next(case for case in CASES if case.name == name)
    with pytest.raises(AssertionError):
        play(case, naive)


def test_every_id_of_the_threat_list_has_cases() -> None:
    listed = {f"{letter}{number:02}" for letter, last in LAST.items() for number in range(1, last + 1)}
    assert {ident for case in CASES for ident in case.ids} == listed - ELSEWHERE.keys()
    for file, test in ELSEWHERE.values():
        assert test in (Path(__file__).parents[1] / file).read_text()
    assert len(CASES) == len({case.name for case in CASES})


def test_a_third_of_the_cases_is_served_with_the_bytes_told() -> None:
    served = [case for case in CASES if case.upstream_sees is not None]
    assert len(served) * 3 >= len(CASES)


def test_requests_that_are_served_tell_what_goes_up() -> None:
    silent = [case.name for case in CASES if case.name[0] != "U" and any(v.requests for v in case.verdicts)]
    told = {case.name for case in CASES if case.upstream_sees is not None}
    assert set(silent) <= told


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("GET\n / \\r\\n\n", (b"GET / \r\n",)),
        ("\\x00\\t\\\\", (b"\0\t\\",)),
        ("{ab\\r\\n*3}c", (b"ab\r\nab\r\nab\r\nc",)),
        ("a{pause}b{reset}", (b"a", Act.PAUSE, b"b", Act.RESET)),
        ("{nothing}", ()),
    ],
)
def test_steps(text: str, steps: tuple[bytes | Act, ...]) -> None:
    assert parse_steps(text) == steps


@pytest.mark.parametrize("text", ["{unknown word}", "\\q", "{open", "\\x0"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_steps(text)


def test_verdicts() -> None:
    assert parse_verdict("REJ 400").end_statuses == {400}
    assert parse_verdict("TWO").answers == ("200", "200")
    assert parse_verdict("ONE 401 200").answers == ("401", "200")
    assert parse_verdict("ONE then REJ 400").end == "REJ"


def test_a_file_with_an_unknown_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "X.case"
    path.write_text("id: H01\nexpect: REJ\n--- reqest\nGET\n")
    with pytest.raises(CaseError):
        load_cases(path)


def test_each_row_is_a_case(tmp_path: Path) -> None:
    path = tmp_path / "X.case"
    rows = "a | 1 | 2\nb | {x*2}\n"
    path.write_text(f"id: H01\nexpect: ONE\n--- each\n{rows}--- request\n{{each}}\n--- upstream sees\n{{sees}}\n")
    first, second = load_cases(path)
    assert (first.name, first.request, first.upstream_sees) == ("X[a]", (b"1",), b"2")
    assert (second.name, second.request, second.upstream_sees) == ("X[b]", (b"xx",), b"")


HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (HEAD + b"\r\n", (len(HEAD) + 2, len(HEAD) + 2)),
        (HEAD, (-1, -1)),
        (HEAD + b"Content-Length: 2\r\n\r\na", (len(HEAD) + 21, -1)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", (len(HEAD) + 30, -1)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx", (len(HEAD) + 30, len(HEAD) + 41)),
    ],
)
def test_the_recorder_finds_the_end_of_a_message(data: bytes, end: tuple[int, int]) -> None:
    assert message_end(data) == end


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: 01\r\n\r\na",
        b"Transfer-Encoding: chunked, chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n01\r\na\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1;a\r\na\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n\r\n",
        b"X_Y: a\r\n\r\n",
        b"X: a\nY: b\r\n\r\n",
        b"X : a\r\n\r\n",
    ],
)
def test_the_recorder_takes_only_what_is_plain(fields: bytes) -> None:
    with pytest.raises(Malformed):
        message_end(HEAD + fields)
