"""The ledger of senders as the desk reads it: brought up to date by the server first, opened when it is asked."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.tokens.ledger import Kind
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from proxy.tokens.ledger import Known, Sighting


class LedgerOf:
    """The ledger beside a store. A server may not have begun one yet: then a StoreError says so."""

    def __init__(self, store: Path, flush: Callable[[], bool]) -> None:
        """`flush` has each server write all that it saw; False if none runs, StoreError if one could not."""
        self._store = store
        self._flush = flush

    def known(self, name: str) -> Known:
        is_fresh, trouble = True, ""
        try:
            is_fresh = self._flush()
        except StoreError as error:
            trouble = str(error)
        from proxy.stores.ledger import LedgerFile, ledger_beside  # noqa: PLC0415

        with closing(LedgerFile(ledger_beside(self._store))) as ledger:
            return replace(ledger.known(name), is_fresh=is_fresh, trouble=trouble)

    def of(self, name: str) -> Sequence[Sighting]:
        return [one for one in self.known(name).sightings if one.kind is not Kind.DROPPED]
