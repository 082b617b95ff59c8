"""A certificate pair, and the authorities of clients, replaced while they serve: new ones are taken, bad ones never.

The files are looked at each second by `certificates` (stat, so that the symlink swaps of Kubernetes and certbot are
seen), in a thread, since a mount may hang. A pair is loaded when two looks in a row saw the same files: who writes the
certificate first and the key a moment later is not accused of a mismatch. So a new pair is served within three seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.pki.context import PairError, build_context, read_pair, read_trust
from proxy.pki.validity import find_dns_names, find_ends
from proxy.stamp import look_at

if TYPE_CHECKING:
    import ssl

    from proxy.gate.snapshot import ClientTrust
    from proxy.pki.context import Pair, Trusted
    from proxy.pki.groups import ServerContext
    from proxy.stamp import Stamp

log = logging.getLogger("promgate.pki")


class _Files:
    """Files that belong together, looked at each second."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen: tuple[Stamp, ...] = ()  # at the last look
        self._judged: tuple[Stamp, ...] = ()  # read, whatever came of it

    def begin(self) -> None:
        """They are about to be read: a change in between is then seen as one."""
        self._seen = self._judged = tuple(map(look_at, self._paths))

    def have_settled(self) -> bool:
        """One look: whether they are others than were read, and at rest."""
        before, self._seen = self._seen, tuple(map(look_at, self._paths))
        return self._seen == before and self._seen != self._judged


class TrustWatch:
    """Watches what clients' certificates are judged by. `trusted` is the last that was good."""

    def __init__(self, trust: ClientTrust) -> None:
        self._trust = trust
        self._files = _Files(*(Path(name) for name in (trust.ca_file, trust.crl_file) if name))
        self.trusted: Trusted | None = None
        self.failed = False

    def load(self) -> Trusted:
        """Blocks; raises PairError."""
        self._files.begin()
        self.trusted = read_trust(self._trust)
        return self.trusted

    def poll(self) -> bool:
        """One look: whether other authorities, or another list of the revoked, judge from now on. Blocks."""
        before = self.trusted
        if before is not None and not self._files.have_settled():
            return False
        try:
            self.load()
        except (PairError, OSError) as exc:
            self.failed = True
            log.error("the new authorities are not taken, the last good ones still judge: %s", exc)  # noqa: TRY400
            return False
        self.failed = False
        return self.trusted != before

    def take_again(self) -> None:
        """What was read could not be used: read it once more at the next look."""
        self.trusted = None


class CertWatch:
    """Watches one pair: `load` builds the first context, `poll` those of the pairs that follow.

    `failed`, `loaded` and `not_after` are for metrics: whether the files as they are now could not be loaded, how many
    contexts have been built, and when the first certificate of the served chain ends (unix seconds). `names` are the
    hosts it stands for.
    """

    def __init__(self, cert_file: Path, key_file: Path, min_version: ssl.TLSVersion) -> None:
        self.cert_file = cert_file
        self.key_file = key_file
        self.min_version = min_version
        self.failed = False
        self.loaded = 0
        self.not_after: float | None = None
        self.names: list[str] = []
        self._files = _Files(cert_file, key_file)
        self._pair: Pair | None = None  # the last that was good

    def load(self, trusted: Trusted | None = None) -> ServerContext:
        """Build a context from the files as they are; blocks; raises PairError."""
        self._files.begin()
        pair = read_pair(self.cert_file, self.key_file)
        context = self._build(pair, trusted)
        self._pair = pair
        text = pair.cert.decode("ascii", "replace")
        self.not_after, self.names = min(find_ends(text), default=None), find_dns_names(text)
        return context

    def poll(self, trusted: Trusted | None = None, *, anew: bool = False) -> ServerContext | None:
        """One look: the context of a new pair that is at rest, if there is one and it is good. Blocks.

        `anew`: `trusted` is another than before, and a bad pair must not keep the old one: then the last good pair is
        put under it. PairError or OSError: that failed.
        """
        if self._files.have_settled():
            try:
                context = self.load(trusted)
            except (PairError, OSError) as exc:
                self.failed = True
                log.error("the new certificate is not served, the last good one still is: %s", exc)  # noqa: TRY400
            else:
                self.failed = False
                log.info("certificate reloaded from %s", self.cert_file)
                return context
        return self._build(self._pair, trusted) if anew and self._pair is not None else None

    def _build(self, pair: Pair, trusted: Trusted | None) -> ServerContext:
        context = build_context(pair, self.min_version, trusted)
        self.loaded += 1
        return context
