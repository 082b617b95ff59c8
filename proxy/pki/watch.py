"""A certificate pair, and the authorities of clients, replaced while they serve: new ones are taken, bad ones never.

The files are looked at each second by `certificates` (stat, so that the symlink swaps of Kubernetes and certbot are
seen), in a thread, since a mount may hang. A pair is loaded when two looks in a row saw the same files: who writes the
certificate first and the key a moment later is not accused of a mismatch. So a new pair is served within three seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.pki.context import PairError, build_server_context
from proxy.pki.validity import find_dns_names, find_ends

if TYPE_CHECKING:
    import ssl

    from proxy.gate.snapshot import ClientTrust
    from proxy.pki.groups import ServerContext

log = logging.getLogger("promgate.pki")


class CertWatch:
    """Watches one pair: `load` builds the first context, `poll` those of the pairs that follow.

    `trust` says which client certificates are asked for; its files are watched with the pair.
    `failed`, `loaded` and `not_after` are for metrics: whether the files as they are now could not be loaded, how many
    pairs have been, and when the first certificate of the served chain ends (unix seconds). `names` are the hosts it
    stands for.
    """

    def __init__(
        self,
        cert_file: Path,
        key_file: Path,
        min_version: ssl.TLSVersion,
        trust: ClientTrust | None = None,
    ) -> None:
        self.cert_file = cert_file
        self.key_file = key_file
        self.min_version = min_version
        self._trust = trust
        self._trusted: Stamps = ()  # the state of the client authorities and the CRL in use
        #: Whether the last context judges clients by other authorities, or another CRL, than the one before it.
        self.trust_changed = False
        self.failed = False
        self.loaded = 0
        self.not_after: float | None = None
        self.names: list[str] = []
        self._seen: Stamps | None = None  # at the last look
        self._judged: Stamps | None = None  # loaded, or found bad

    def load(self) -> ServerContext:
        """Build a context from the files as they are; blocks; raises PairError."""
        # Looked at before they are read: a change in between is then seen as one.
        self._seen = self._judged = self._look()
        context = build_server_context(self.cert_file, self.key_file, self.min_version, self._trust)
        self.trust_changed, self._trusted = self._trusted not in ((), self._judged[2:]), self._judged[2:]
        text = self.cert_file.read_text("ascii", "replace")
        self.not_after, self.names = min(find_ends(text), default=None), find_dns_names(text)
        self.loaded += 1
        return context

    def poll(self) -> ServerContext | None:
        """One look: the context of a new pair that is at rest, if there is one and it is good. Blocks."""
        before, now = self._seen, self._look()
        self._seen = now
        if now != before or now == self._judged:
            return None
        try:
            context = self.load()
        except (PairError, OSError) as exc:
            self.failed = True
            log.error("the new certificate is not served, the last good one still is: %s", exc)  # noqa: TRY400
            return None
        self.failed = False
        log.info("certificate reloaded from %s", self.cert_file)
        return context

    def _look(self) -> Stamps:
        trust = self._trust
        named = [] if trust is None else [trust.ca_file, trust.crl_file]
        files = (self.cert_file, self.key_file, *(Path(name) for name in named if name))
        return tuple(map(stamp_of, files))


#: What tells one state of a file from another: device, inode, size, times of contents and of inode; None: not there.
Stamp = tuple[int, ...] | None
Stamps = tuple[Stamp, ...]


def stamp_of(path: Path) -> Stamp:
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns
