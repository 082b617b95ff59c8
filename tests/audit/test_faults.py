"""kill -9 and a disk that fails, at every call of a command that changes a file: store and audit never part.

Whatever was changed is on record, nothing is changed that could not be recorded, and the chain verifies at each moment.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from proxy.audit.trail import Trail, head_beside
from proxy.audit.verify import verify
from proxy.tokens.ports import Change
from proxy.tokens.token import ACCEPTED, state_at
from proxy.tokens.told import tell_change
from tests.kit.fault_site import fault_site
from tests.kit.rig import FAULTS, KILL, TORN


@pytest.fixture
def site(rig_library):
    with fault_site(rig_library, {"audit": {"file": "state/audit.jsonl"}}) as made:
        made.run("create", "prom")
        made.run("rotate", "prom")
        made.save()
        yield made


@pytest.fixture
def trail(site):
    return Trail(site.state / "audit.jsonl", head_beside(site.store))


def recorded(trail):
    """What is said to have been changed, or was about to be."""
    return {(fact["what"], fact.get("token")) for one in trail.newest(1000) for fact in one.get("changes", [])}


def what_differs(before, after):
    """What a reader of the store sees to have happened, in the words of the audit."""
    return {(fact.what, fact.token) for fact in tell_change(Change("prom", before, after))}


@pytest.mark.parametrize("what", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("command", ["rotate", "rollback", "revoke"])
def test_nothing_is_changed_that_is_not_on_record(site, trail, command, what):
    before = site.tokens("prom")
    step = 1 if os.environ.get("PROMGATE_SOAK") else 7 if what == KILL else 12
    at = 1 + list(FAULTS.values()).index(what) * 5 % step
    struck = 0
    while True:
        site.put_back()
        ended = site.run(command, "prom", at=at, what=what)
        if not ended.struck:
            break
        struck += 1
        assert verify(trail).problems == [], (at, ended)
        after = site.tokens("prom")
        assert what_differs(before, after) <= recorded(trail), (at, ended)
        if what in (KILL, TORN):
            assert ended.code == -signal.SIGKILL
        else:
            assert ended.code in (0, 1)
            assert "Traceback" not in ended.stderr
            assert ended.code == 0 or str(site.state) in ended.stderr
        if ended.code == 0:
            assert after != before
        now = time.time()
        assert command == "revoke" or any(state_at(token, now) in ACCEPTED for token in after)
        # The next one goes on, on the same chain.
        assert site.run("revoke", "prom").code == (0 if any(token.revoked_at is None for token in after) else 1)
        assert verify(trail).problems == []
        at += step
    assert ended.code == 0, ended
    assert struck * step > 15, "the rig hardly struck"
    assert what_differs(before, site.tokens("prom")) <= recorded(trail)
