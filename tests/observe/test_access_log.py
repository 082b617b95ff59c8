"""One line per request, whatever it says; no secret in it; and a log that cannot be written costs no request."""

import asyncio
import base64
import contextlib
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from proxy.observe.access_log import AccessLog
from proxy.observe.outcome import Outcome
from proxy.tokens.secret import mint
from proxy.tokens.token import TokenKind
from tests.kit.promgate import environment
from tests.relay.peer import Cut
from tests.relay.stage import OK, answering, get, on_a_loop, post, stage, upstream

PLAIN = Outcome(
    at=1_700_000_000.125,
    duration_s=0.001_234_5,
    ip="192.0.2.7",
    method=b"POST",
    path=b"/prometheus/api/v1/write",
    status=204,
    reason="ok",
    route="remote-write",
    identity="token:agent-1",
    token_id="abcd1234",
    agent=b"Prometheus/2.53.0",
    bytes_in=8192,
    bytes_out=0,
    id=0x00F86D081884C7D6,
)
#: What never became a request.
NAMELESS = replace(PLAIN, method=b"", path=b"", status=400, route="", identity="", token_id="", agent=b"")
HOSTILE = [
    b"a\r\nts=2023 client=forged",
    b"a\nb",
    b"\x1b[31mred\x1b[0m\x07",
    b'" status=200 x="',
    b"back\\slash\\",
    "line\u2028break\u2029\u0085".encode(),
    b"\x00\x7f\x80\xff\xfe",
    b"a b=c",
    b"=",
    b" ",
    "\u202egnp.exe".encode(),
    "\ud800".encode("utf-8", "surrogatepass"),
]
BOTH = pytest.mark.parametrize("log_format", ["logfmt", "json"])
_PAIR = re.compile(r'([a-z]+)=("(?:[^"\\]|\\.)*"|[^ "=]+)(?: |$)')


def parsed(line, log_format):
    """A line as a log collector reads it: strictly."""
    if log_format == "json":
        return json.loads(line)
    at, pairs = 0, {}
    while at < len(line):
        match = _PAIR.match(line, at)
        assert match, line[at:]
        key, value = match[1], match[2]
        assert key not in pairs
        pairs[key] = json.loads(value) if value.startswith('"') else value
        at = match.end()
    return pairs


def written(path, *outcomes, log_format="logfmt"):
    log = AccessLog(path, log_format)
    log.write(outcomes)
    log.close()
    assert log.lost == 0
    return path.read_bytes()


# Lines


def test_a_line_in_logfmt(tmp_path):
    assert written(tmp_path / "log", PLAIN) == (
        b"ts=2023-11-14T22:13:20.125Z id=00f86d081884c7d6 client=192.0.2.7 method=POST path=/prometheus/api/v1/write "
        b"status=204 reason=ok route=remote-write identity=token:agent-1 token=abcd1234 in=8192 out=0 "
        b"duration=0.001234 agent=Prometheus/2.53.0\n"
    )


def test_a_line_in_json(tmp_path):
    assert json.loads(written(tmp_path / "log", PLAIN, log_format="json")) == {
        "ts": "2023-11-14T22:13:20.125Z",
        "id": "00f86d081884c7d6",
        "client": "192.0.2.7",
        "method": "POST",
        "path": "/prometheus/api/v1/write",
        "status": 204,
        "reason": "ok",
        "route": "remote-write",
        "identity": "token:agent-1",
        "token": "abcd1234",
        "in": 8192,
        "out": 0,
        "duration": 0.001234,
        "agent": "Prometheus/2.53.0",
    }


@BOTH
def test_whoever_was_told_no_id_is_given_one(tmp_path, log_format):
    lines = written(tmp_path / "log", *[replace(PLAIN, id=0)] * 100, log_format=log_format).decode().splitlines()
    ids = {parsed(line, log_format)["id"] for line in lines}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


@BOTH
@pytest.mark.parametrize("field", ["path", "agent"])
def test_a_token_that_somebody_wrote_elsewhere_is_withheld(tmp_path, log_format, field):
    token = mint(TokenKind.WRITE, os.urandom)
    odd = replace(PLAIN, **{field: b"/api/" + token.secret.reveal().encode() + b"/x"})
    line = written(tmp_path / "log", odd, odd, log_format=log_format).decode().splitlines()[1]
    assert parsed(line, log_format)[field] == f"/api/pgw_{token.id}_.../x"


@BOTH
def test_what_never_became_a_request_has_a_line_with_the_same_fields(tmp_path, log_format):
    full = parsed(written(tmp_path / "a", PLAIN, log_format=log_format).decode().rstrip("\n"), log_format)
    empty = parsed(written(tmp_path / "b", NAMELESS, log_format=log_format).decode().rstrip("\n"), log_format)
    assert list(empty) == list(full)
    assert empty["path"] == ("-" if log_format == "logfmt" else "")


@pytest.mark.parametrize("at", [0.0, 1_700_000_000.999_9, 1_700_000_001.0, 1_700_000_000.0])
def test_the_time_is_never_rounded_into_another_second(tmp_path, at):
    stamp = written(tmp_path / "log", replace(PLAIN, at=at), replace(PLAIN, at=at + 0.0001))[3:27].decode()
    assert stamp.startswith("1970-01-01T00:00:00.000" if not at else f"2023-11-14T22:13:2{int(at) % 10}.")


# What a client may try


@BOTH
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("field", ["method", "path", "agent", "identity"])
def test_no_client_writes_a_line_or_a_field_of_its_own(tmp_path, log_format, field, hostile):
    value = hostile.decode("utf-8", "surrogateescape") if field == "identity" else hostile
    data = written(tmp_path / "log", replace(PLAIN, **{field: value}), log_format=log_format)
    assert not data.translate(None, bytes(range(0x20, 0x7F)) + b"\n"), "printable ASCII only"
    assert data.count(b"\n") == 1
    line = parsed(data.decode().rstrip("\n"), log_format)
    usual = parsed(written(tmp_path / "usual", PLAIN, log_format=log_format).decode().rstrip("\n"), log_format)
    assert {k: v for k, v in line.items() if k != field} == {k: v for k, v in usual.items() if k != field}


@BOTH
def test_a_memory_of_many_values_does_not_mix_them_up(tmp_path, log_format):
    outcomes = [replace(PLAIN, agent=b"agent %d" % n if n % 2 else b"agent-%d" % n) for n in range(5000)]
    lines = written(tmp_path / "log", *outcomes, *outcomes, log_format=log_format).decode().splitlines()
    assert [parsed(line, log_format)["agent"] for line in lines] == [o.agent.decode() for o in outcomes] * 2


SECRETS = {
    "token": "pgw_Zz9Yy8Xx_not-the-right-one-but-a-secret-all-the-same",
    "password": "correct-horse-battery",
    "query": "query-secret-4711",
    "cookie": "session-secret-0815",
    "body": "body-secret-2342",
    "jwt": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqd3Qtc2VjcmV0In0.c2lnbmF0dXJl",
}


@BOTH
@on_a_loop
async def test_no_secret_of_a_request_is_in_any_output(tmp_path, log_format, caplog, capfd):
    """Of requests that pass, are denied, are unlawful, are cut, or fail in a way of ours."""
    caplog.set_level(logging.DEBUG)
    basic = base64.b64encode(f"admin:{SECRETS['password']}".encode()).decode()
    authorizations = [f"Bearer {SECRETS['token']}", f"Basic {basic}", f"Bearer {SECRETS['jwt']}", SECRETS["token"]]
    cookie = f"Cookie: sid={SECRETS['cookie']}\r\n".encode()
    body = SECRETS["body"].encode()
    log = AccessLog(tmp_path / "log", log_format)
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        relay.context.report = lambda outcome: log.write([outcome])
        requests = []
        for authorization in authorizations:
            line = f"Authorization: {authorization}\r\n".encode()
            for path in ("/x", "/plain", "/write"):
                target = f"{path}?token={SECRETS['query']}"
                requests.append(post(target, body, line, cookie))
                requests.append(post(target, body, line, line, cookie))
                requests.append(post(target, body, line, cookie, b"Bad Name: x\r\n"))
                requests.append(post(target, body, line, cookie, length=1000))
        requests.append(get("/plain?" + SECRETS["query"], relay.bearer, cookie))
        requests.append(SECRETS["token"].encode() + b"\r\n\r\n")
        for request in requests:
            client = await relay.client(request)
            client.half_close()
            with contextlib.suppress(Cut):
                await client.message()
        await origin.stop()
        failures = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))
        relay.context.report = lambda _: 1 / 0  # a defect of ours, with a request at hand
        client = await relay.client(post("/plain?" + SECRETS["query"], body, b"Authorization: Bearer x\r\n", cookie))
        await client.end()
        relay.context.report = lambda outcome: log.write([outcome])
        assert [type(failure["exception"]) for failure in failures] == [ZeroDivisionError]
        for failure in failures:  # as asyncio's own handler does
            logging.getLogger("asyncio").error("%s %r", failure["message"], failure, exc_info=failure["exception"])
        failures.clear()
    log.close()
    lines = (tmp_path / "log").read_text()
    assert lines.count("\n") >= len(requests)
    shown = capfd.readouterr()
    clear = relay.bearer.split()[-1].decode()
    for name, secret in {**SECRETS, "basic": basic, "known token": clear, "its half": clear[13:]}.items():
        for output in (lines, shown.out, shown.err, caplog.text):
            assert secret not in output, name


# The file


def test_the_file_is_ours_alone(tmp_path):
    log = AccessLog(tmp_path / "log")
    log.close()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_it_appends(tmp_path):
    path = tmp_path / "log"
    written(path, PLAIN)
    assert written(path, PLAIN).count(b"\n") == 2


@pytest.mark.parametrize("how", ["rename", "remove"])
def test_it_follows_logrotate(tmp_path, how):
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = AccessLog(path)
    log.write([replace(PLAIN, path=b"/before")])
    log.write([replace(PLAIN, path=b"/queued")])
    if how == "rename":
        path.rename(old)
    else:
        path.unlink()
    log.reopen_if_moved()
    log.write([replace(PLAIN, path=b"/after")])
    log.close()
    assert [line.split()[4] for line in path.read_text().splitlines()] == ["path=/after"]
    if how == "rename":
        assert [line.split()[4] for line in old.read_text().splitlines()] == ["path=/before", "path=/queued"]


def test_it_goes_on_after_copytruncate(tmp_path):
    path = tmp_path / "log"
    log = AccessLog(path)
    log.write([PLAIN])
    os.truncate(path, 0)
    log.reopen_if_moved()
    log.write([PLAIN])
    log.close()
    assert path.read_bytes().startswith(b"ts="), "O_APPEND: no hole where the old lines were"


@pytest.mark.parametrize("how", ["no directory", "a loop of links"])
def test_a_path_that_cannot_be_looked_at_keeps_the_old_file_in_use(tmp_path, how):
    directory = tmp_path / "logs"
    directory.mkdir()
    log = AccessLog(directory / "log")
    directory.rename(tmp_path / "elsewhere")
    if how == "no directory":
        directory.write_text("")
    else:
        directory.symlink_to(directory)
    log.reopen_if_moved()
    log.write([PLAIN])
    log.close()
    assert (tmp_path / "elsewhere" / "log").read_bytes().count(b"\n") == 1


def test_a_directory_that_has_gone_keeps_the_old_file_in_use(tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    log = AccessLog(directory / "log")
    moved = directory.rename(tmp_path / "moved")
    log.reopen_if_moved()
    log.write([PLAIN])
    assert (moved / "log").read_bytes().count(b"\n") == 1
    directory.mkdir()
    log.reopen_if_moved()
    log.write([PLAIN])
    log.close()
    assert (directory / "log").read_bytes().count(b"\n") == 1


def test_a_full_disk_costs_lines_and_counts_them(tmp_path):
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    log = AccessLog(full)
    log.write([PLAIN] * 7)
    assert log.lost == 7
    full.unlink()
    log.reopen_if_moved()
    log.write([PLAIN])
    log.close()
    assert log.lost == 7
    assert full.read_bytes().count(b"\n") == 1


_LIMITED = """
import dataclasses, pathlib, resource, sys
from proxy.observe.access_log import AccessLog
from tests.observe.test_access_log import PLAIN
path = pathlib.Path(sys.argv[1])
log = AccessLog(path)
log.write([PLAIN])
size = path.stat().st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (size * 5 // 2, hard))
log.write([PLAIN] * 3)
log.write([PLAIN])
print(log.lost)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.write([dataclasses.replace(PLAIN, path=b"/again")]); log.close()
print(log.lost)
"""


def test_a_disk_that_fills_in_the_middle_of_a_line_spoils_that_line_alone(tmp_path):
    path = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, path], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3", "3"], "two of three, and the one after them"
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert lines[0] == lines[1]
    assert lines[1].startswith(lines[2])
    assert parsed(lines[3], "logfmt")["path"] == "/again"


def test_a_file_that_cannot_be_opened_is_told_at_the_start(tmp_path):
    with pytest.raises(OSError):
        AccessLog(tmp_path / "no" / "such" / "log")


def test_stderr_is_the_default(capfd):
    log = AccessLog(None)
    log.write([PLAIN])
    log.reopen_if_moved()
    log.close()
    assert capfd.readouterr().err.startswith("ts=2023")
    print("still open", file=sys.stderr)
    assert capfd.readouterr().err == "still open\n"


def test_a_pipe_that_nobody_reads_stops_nobody(monkeypatch):
    """stderr of a container whose log driver hangs: lines are lost and counted, no request waits for it."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        log = AccessLog(None)
        for _ in range(20):
            log.write([PLAIN] * 100)
        assert log.lost > 0
        assert log.lost < 2000
        kept = os.read(reader.fileno(), 1 << 20)
        assert kept.count(b"\n") == 2000 - log.lost
