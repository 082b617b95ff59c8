"""What is wrong with a configuration, told all at once and with the line where it stands.

Paths are written as the operator would point: `routes[0].allow[1].role`. A text never holds a secret:
values of secret options and clear-text YAML around an error are not quoted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from proxy.stamp import look_at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from proxy.stamp import Stamp

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_@.-]{1,80}", re.ASCII)


class Problem(NamedTuple):
    """One finding. `line` counts from 1; 0 stands for the file as a whole. `path` is empty where no key is meant."""

    file: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.text) if part)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds every reason, in the order of the file.

    `files` are those that were read, each in the state in which it was.
    """

    def __init__(self, problems: list[Problem], files: Mapping[Path, Stamp]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.files = files


def printable(thing: object) -> str:
    """`thing` as text that cannot forge a line: control and non-ASCII characters are escaped."""
    return ascii(str(thing))[1:-1]


def join_key(path: str, key: str) -> str:
    """The path of a key below `path`; a key that could fake a path or a log line is quoted."""
    if _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{key[:80]!a}]"


class Report:
    """Collects findings while a file is read and built, and knows the line of each path that was written."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.files: dict[Path, Stamp] = {}
        self.names: set[str] = set()  # of files, as written, opened or not; but those that tokens are put into
        self.certificates: dict[str, Path] = {}  # option -> the file of certificates that it names
        self._unsound: set[str] = set()

    def again(self) -> Report:
        """For the same file, built once more: nothing was found yet, and what is read belongs to both."""
        fresh = Report(self.file)
        fresh.lines, fresh.files, fresh.names = self.lines, self.files, self.names
        return fresh

    def problem(self, path: str, text: str, line: int | None = None) -> None:
        self._unsound.add(path)
        self.problems.append(Problem(self.file, self.line_of(path) if line is None else line, path, text))

    def warning(self, path: str, text: str, line: int | None = None) -> None:
        self.warnings.append(Problem(self.file, self.line_of(path) if line is None else line, path, text))

    def reads(self, path: Path) -> None:
        """Say that the file is read after this, so that a change of it is known for one of the configuration."""
        self.files.setdefault(path.absolute(), look_at(path))

    def problem_in(self, file: str, line: int, path: str, text: str, *, option: str) -> None:
        """A finding in the file that `option` names, whose value is not to be trusted then; no file: in the option."""
        self.distrust(option)
        self.problems.append(Problem(file or self.file, line if file else self.line_of(option), path, text))

    def warning_in(self, file: str, line: int, path: str, text: str, *, option: str) -> None:
        self.warnings.append(Problem(file or self.file, line if file else self.line_of(option), path, text))

    def distrust(self, path: str) -> None:
        """Say that what `path` holds is not what was meant, so that nothing is concluded from it."""
        self._unsound.add(path)

    def is_sound(self, *paths: str) -> bool:
        """True when no problem was found at, below or above any of `paths`: one fault is told once."""
        return not any(_touches(path, other) for path in paths for other in self._unsound)

    def was_read(self, path: str) -> bool:
        """True when no problem was found at or above `path`: its keys are known, whatever is wrong with one of them."""
        return not any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in self._unsound)

    def line_of(self, path: str) -> int:
        """The line of `path`, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 0)

    def finish(self) -> list[Problem]:
        """The warnings, by line; raises ConfigError if there is a problem."""
        if self.problems:
            raise ConfigError(sorted(self.problems, key=self._by_place), self.files)
        return sorted(self.warnings, key=self._by_place)

    def _by_place(self, problem: Problem) -> tuple[bool, str, int]:
        return problem.file != self.file, problem.file, problem.line


def _touches(path: str, other: str) -> bool:
    shorter, longer = sorted((path, other), key=len)
    return longer.startswith(shorter) and longer[len(shorter) : len(shorter) + 1] in {"", ".", "["}
