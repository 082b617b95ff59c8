"""kill -9 and a disk that fails, at every call of a command that changes a file: store and audit never part.

Whatever was changed is on record, nothing is changed that could not be recorded, and the chain verifies at each moment.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from proxy.audit.trail import Trail, head_beside
from proxy.audit.verify import verify
from proxy.stores.sqlite import open_store
from proxy.tokens.ports import Change
from proxy.tokens.token import ACCEPTED, state_at
from proxy.tokens.told import tell_change
from tests.kit.promgate import write_route
from tests.stores.rig import KILL, TORN, Rig, build

CONFIG = yaml.safe_dump(
    {
        "listen": ["127.0.0.1:9443"],
        "tokens": {"store": "sqlite:///state/promgate.db"},
        "audit": {"file": "state/audit.jsonl"},
        "routes": [write_route("http://127.0.0.1:9090")],
    }
)
FAULTS = {"kill": KILL, "torn": TORN, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}


class Site:
    """A directory whose state is put back before each run."""

    def __init__(self, directory, library):
        self.config = directory / "promgate.yml"
        self.config.write_text(CONFIG)
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self.saved = directory / "saved"
        self.rig = Rig(library, self.state)
        self.trail = Trail(self.state / "audit.jsonl", head_beside(self.state / "promgate.db"))

    def run(self, *words, at=0, what=0):
        return self.rig.run(["token", *words, f"--config.file={self.config}"], at, what)

    def put_back(self):
        for file in self.state.iterdir():
            file.unlink()
        for file in self.saved.iterdir():
            # What is appended to goes on in the same file: its inode is part of what is known of it.
            shutil.copy2(file, self.state)

    def tokens(self):
        with closing(open_store(self.state / "promgate.db", make=False)) as store:
            return store.named("prom")

    def recorded(self):
        """What is said to have been changed, or was about to be."""
        return {
            (fact["what"], fact.get("token"))
            for one in self.trail.newest(1000)
            for fact in one.get("changes", [])
        }


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("rig"))


@pytest.fixture
def site(library):
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        made = Site(Path(directory), library)
        made.run("create", "prom")
        made.run("rotate", "prom")
        shutil.copytree(made.state, made.saved)
        yield made
        made.rig.close()


def what_differs(before, after):
    """What a reader of the store sees to have happened, in the words of the audit."""
    return {(fact.what, fact.token) for fact in tell_change(Change("prom", before, after))}


@pytest.mark.parametrize("what", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("command", ["rotate", "rollback", "revoke"])
def test_nothing_is_changed_that_is_not_on_record(site, command, what):
    before = site.tokens()
    step = 1 if os.environ.get("PROMGATE_SOAK") else 7 if what == KILL else 12
    at = 1 + list(FAULTS.values()).index(what) * 5 % step
    struck = 0
    while True:
        site.put_back()
        ended = site.run(command, "prom", at=at, what=what)
        if not ended.struck:
            break
        struck += 1
        assert verify(site.trail).problems == [], (at, ended)
        after = site.tokens()
        assert what_differs(before, after) <= site.recorded(), (at, ended)
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
        assert verify(site.trail).problems == []
        at += step
    assert ended.code == 0, ended
    assert struck * step > 15, "the rig hardly struck"
    assert what_differs(before, site.tokens()) <= site.recorded()
