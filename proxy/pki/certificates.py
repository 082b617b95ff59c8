"""All certificates of a listener: one for everybody, and others for the names that they stand for (SNI, RFC 6066 3).

Who asks for a name that none has gets the first: what it does not stand for, the client refuses by itself. All ask the
same of clients, so a choice by name changes nothing of who is let in.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from proxy.pki.context import PairError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from proxy.pki.groups import ServerContext
    from proxy.pki.watch import CertWatch, TrustWatch

log = logging.getLogger("promgate.pki")

POLL_S: Final = 1.0


class Certificates:
    """`load` once, then `run`. The first of `watches` is the one for everybody."""

    def __init__(
        self, watches: Sequence[CertWatch], trust: TrustWatch | None = None, *, poll_s: float = POLL_S
    ) -> None:
        self._watches = watches
        self._trust = trust
        self._poll_s = poll_s
        self._by_name: dict[str, ServerContext] = {}
        self._contexts: list[ServerContext] = []

    @property
    def ends(self) -> dict[Path, float]:
        """When what is served of each file ends, in unix seconds."""
        return {watch.cert_file: watch.not_after for watch in self._watches if watch.not_after is not None}

    @property
    def loaded(self) -> int:
        return sum(watch.loaded for watch in self._watches)

    @property
    def failed(self) -> bool:
        return any(watch.failed for watch in self._watches) or (self._trust is not None and self._trust.failed)

    def load(self) -> ServerContext:
        """The context to listen with; blocks; raises PairError."""
        trusted = None if self._trust is None else self._trust.load()
        self._contexts = [watch.load(trusted) for watch in self._watches]
        for watch in self._watches[1:]:
            if not watch.names:
                raise PairError(f"{watch.cert_file}: stands for no DNS name, so nobody could ask for it: issue it anew")
        return self._build()

    async def run(self, take: Callable[[ServerContext, bool], None]) -> None:
        """Watch until cancelled; `take` is called in the event loop with each new context.

        And with whether clients are judged by other authorities, or another list of the revoked, from now on.
        """
        while True:
            await asyncio.sleep(self._poll_s)
            fresh, changed = await asyncio.to_thread(self._poll)
            if any(fresh):
                self._contexts = [new or old for new, old in zip(fresh, self._contexts, strict=True)]
                take(self._build(), changed)

    def _poll(self) -> tuple[list[ServerContext | None], bool]:
        """One look at all files: the contexts that are new, and whether the trust is. It is one for all pairs."""
        trust = self._trust
        changed = trust is not None and trust.poll()
        trusted = None if trust is None else trust.trusted
        try:
            return [watch.poll(trusted, anew=changed) for watch in self._watches], changed
        except (PairError, OSError) as exc:  # as when no file can be opened: no pair may have a trust of its own
            log.error("the new authorities are not taken yet: %s", exc)  # noqa: TRY400
            if trust is not None:
                trust.take_again()
            return [], False

    def _build(self) -> ServerContext:
        """The first context, which hands a handshake over to the one whose certificate has the name."""
        first = self._contexts[0]
        by_name: dict[str, ServerContext] = {}
        for watch, context in zip(self._watches, self._contexts, strict=True):
            for name in watch.names:
                by_name.setdefault(name, context)
        self._by_name = by_name
        if len(self._contexts) > 1:
            first.x25519.sni_callback = first.p256.sni_callback = self._choose
        return first

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        found = self._find(name.lower()) if name else None
        if found is not None:
            connection.context = found.p256  # the group stays that of the context that the handshake began with

    def _find(self, name: str) -> ServerContext | None:
        """By the name itself, else by a wildcard in the place of its first label (RFC 6125 6.4.3)."""
        return self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
