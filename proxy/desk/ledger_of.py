"""The ledger of senders as the desk reads it: opened when it is asked."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from proxy.tokens.ledger import Sighting


class LedgerOf:
    """The ledger beside a store. A server may not have begun one yet: then a StoreError says so."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def of(self, name: str) -> Sequence[Sighting]:
        from proxy.stores.ledger import LedgerFile, ledger_beside  # noqa: PLC0415

        with closing(LedgerFile(ledger_beside(self._store))) as ledger:
            return ledger.of(name)
