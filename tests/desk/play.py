"""A desk on a store in memory, at a time of our choice, with a server and targets that do as they are told."""

from __future__ import annotations

from dataclasses import replace

from proxy.desk.desk import Desk
from proxy.gate.snapshot import TokenRules
from proxy.stores.memory import MemoryStore
from proxy.tokens.ledger import Known
from proxy.tokens.ports import CanaryError, DeliveryError, StoreError
from proxy.tokens.secret import digest
from proxy.tokens.token import state_at
from tests.tokens.play import DAY, HOUR, randomness

RULES = TokenRules(overlap_s=HOUR, max_overlap_s=DAY, retry_grace_s=HOUR)


class Target:
    """A file somewhere: it holds one token, and may be told to fail, before or after it took one."""

    def __init__(self, target):
        self.target = target
        self.fails = None
        self.holds = None
        self.seen = []
        self.on_deliver = lambda _: None

    def deliver(self, parcel):
        self.on_deliver(parcel)
        self.seen.append(parcel.token_id)
        if self.fails == "before":
            raise DeliveryError(f"{self.target}: the disk is full: make room")
        self.holds = digest(parcel.secret.reveal().encode())
        if self.fails == "after":
            raise DeliveryError(f"{self.target}: the answer did not come in time: look there")


class Canary:
    def __init__(self):
        self.fails = None
        self.proved = []
        self.on_prove = lambda: None

    def prove(self, _name, _kind, secret):
        self.on_prove()
        if self.fails:
            raise CanaryError(self.fails, "it was told so")
        self.proved.append(digest(secret.reveal().encode()))


class Ledger:
    """Sightings as told, or none that can be read."""

    def __init__(self, *seen):
        self.seen = seen
        self.fails = False
        self.as_known = Known((), since=0.0)

    def known(self, name):
        if self.fails:
            raise StoreError("ledger.db: cannot be read")
        return replace(self.as_known, sightings=tuple(one for one in self.seen if one.name == name))

    def of(self, name):
        return list(self.known(name).sightings)


class Stage:
    """`desk()` is another process each time, on the same store."""

    def __init__(self, *targets, rules=RULES):
        self.store = MemoryStore()
        self.now = 1_700_000_000.0
        self.random = randomness()
        self.rules = rules
        self.targets = [Target(name) for name in targets]
        self.canary = None
        self.ledger = None
        self.gone = set()
        self.applied = 0
        self.server_fails = False
        self._processes = 0

    def desk(self, **changed):
        self._processes += 1
        parts = {
            "store": self.store,
            "rules": self.rules,
            "clock": lambda: self.now,
            "random": self.random,
            "apply": self.apply,
            "owner": f"process-{self._processes}",
            "is_gone": lambda owner: owner.partition("#")[0] in self.gone,
            "sinks": lambda _: tuple(self.targets),
            "prover": lambda _: self.canary,
            "sightings": self.ledger,
        }
        return Desk(**(parts | changed))

    def apply(self, generation):
        if self.server_fails:
            raise StoreError("the server there did not answer within 5 s")
        self.applied = max(self.applied, generation)
        return self.applied

    def tokens(self, name="prom"):
        return self.store.named(name)

    def states(self, name="prom"):
        return [state_at(token, self.now).value for token in self.tokens(name)]

    def state_of(self, held):
        return state_at(self.store.find(held), self.now)

    def rotations(self, name="prom"):
        return self.store.story(name).rotations
