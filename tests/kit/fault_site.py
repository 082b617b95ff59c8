"""A directory with a configuration and a token store, where `promgate token` commands meet a disk that fails, or die.

What is in its state directory is saved, and put back before each run: a hundred faults begin from the same store.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from proxy.stores.sqlite import open_store
from tests.kit.promgate import write_route
from tests.kit.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.tokens.ports import Story
    from proxy.tokens.token import Token
    from tests.kit.rig import Ended


class FaultSite:
    """`more` is added to the configuration."""

    def __init__(self, directory: Path, library: Path, more: Mapping[str, Any]) -> None:
        self.config = directory / "promgate.yml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "listen": ["127.0.0.1:9443"],
                    "tokens": {"store": "sqlite:///state/promgate.db"},
                    "routes": [write_route("http://127.0.0.1:9090")],
                    **more,
                }
            )
        )
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self.store = self.state / "promgate.db"
        self.saved = directory / "saved"
        self.rig = Rig(library, self.state)

    def close(self) -> None:
        self.rig.close()

    def run(self, *words: str, at: int = 0, what: int = 0) -> Ended:
        """`promgate token WORDS`, with the fault `what` at its call number `at`."""
        return self.rig.run(["token", *words, f"--config.file={self.config}"], at, what)

    def save(self) -> None:
        shutil.copytree(self.state, self.saved)

    def put_back(self) -> None:
        for file in self.state.iterdir():
            file.unlink()
        for file in self.saved.iterdir():
            # What is appended to goes on in the same file: its inode is part of what is known of it.
            shutil.copy2(file, self.state)

    def story(self, name: str) -> Story:
        with closing(open_store(self.store, make=False)) as opened:
            return opened.story(name)

    def tokens(self, name: str) -> tuple[Token, ...]:
        return self.story(name).tokens


@contextmanager
def fault_directory() -> Iterator[Path]:
    """In memory where there is such a place: it is the rig that fails here, and a real disk would only be slow."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


@contextmanager
def fault_site(library: Path, more: Mapping[str, Any] | None = None) -> Iterator[FaultSite]:
    with fault_directory() as directory, closing(FaultSite(directory, library, more or {})) as made:
        yield made
