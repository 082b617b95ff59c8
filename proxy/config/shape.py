"""The small language in which `schema` says what may be written: kinds of words, lists, maps, sections, options.

An option is told once, as a class attribute of its Section; reading, defaults and docs/configuration.md all
come from there. Sections are plain classes: a dataclass costs 0.7 ms of import each, and every
`promgate token` command pays it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind:
    """A value written as one word. `parse` takes the text and returns the value or raises ValueError.

    `stand_in` takes the place of a value that could not be read, so that the rest can still be checked; it never
    leaves the room (there is a problem by then).
    """

    __slots__ = ("name", "parse", "stand_in")

    def __init__(self, name: str, parse: Callable[[str], Any], stand_in: Any) -> None:
        self.name, self.parse, self.stand_in = name, parse, stand_in


class ListOf:
    """A list. With `or_one`, a single item may stand without its brackets. The value is a tuple."""

    __slots__ = ("item", "or_one")

    def __init__(self, item: Shape, *, or_one: bool = False) -> None:
        self.item, self.or_one = item, or_one


class MapOf:
    """Names that the operator chooses -> values. `key` says what the names are. The value is a dict."""

    __slots__ = ("item", "key")

    def __init__(self, key: str, item: Shape) -> None:
        self.key, self.item = key, item


class Table:
    """A Section. With `short`, a lone word (or a list, where that key takes one) stands for a section with just it."""

    __slots__ = ("section", "short")

    def __init__(self, section: type[Section], *, short: str = "") -> None:
        self.section, self.short = section, short


class Refused:
    """A key of Prometheus' web config that is known and not taken; `reason` says why and what to do.

    `harmless` is a value that says what promgate does anyway, and is therefore taken.
    """

    __slots__ = ("harmless", "reason")

    def __init__(self, reason: str, harmless: str = "") -> None:
        self.reason, self.harmless = reason, harmless


Shape = Kind | ListOf | MapOf | Table | Refused

REQUIRED = object()


class Option:
    """One key. `written` is the default as one would write it in the file; None: nothing, REQUIRED: must be given."""

    __slots__ = ("default", "doc", "has_file", "shape", "written")

    def __init__(self, shape: Shape, written: Any, doc: str, *, has_file: bool) -> None:
        self.shape, self.written, self.doc, self.has_file = shape, written, doc, has_file
        self.default = stand_in(shape) if written is REQUIRED else _default(shape, written)

    @property
    def word(self) -> Kind:
        """The kind of an option that is one word, which `has_file` options are."""
        if not isinstance(self.shape, Kind):
            raise TypeError("only an option of one word can be kept in a file")
        return self.shape

    @property
    def is_required(self) -> bool:
        return self.written is REQUIRED

    @property
    def default_text(self) -> str:
        """The default as it would be written; empty when there is nothing to write."""
        if self.written is REQUIRED or self.written is None or self.written in ({}, []):
            return ""
        return f"[{', '.join(self.written)}]" if isinstance(self.written, list) else str(self.written)


def option(shape: Shape, written: Any, doc: str, *, has_file: bool = False) -> Any:
    """Declare an option in a Section. With `has_file`, `NAME_file` may name a file that holds the value instead."""
    return Option(shape, written, doc, has_file=has_file)


class Section:
    """A mapping of options. `at` is its path in the file; the attributes hold the values.

    `files` tells which options were read from a file of their own (`NAME_file`), and from which.
    """

    options: ClassVar[dict[str, Option]] = {}

    def __init_subclass__(cls) -> None:
        cls.options = {}
        for name, value in list(vars(cls).items()):
            if isinstance(value, Option):
                cls.options[name] = value

    def __init__(
        self, at: str = "", values: dict[str, Any] | None = None, files: dict[str, str] | None = None
    ) -> None:
        self.at = at
        self.files = files or {}
        for name, known in self.options.items():
            setattr(self, name, values[name] if values and name in values else known.default)


def stand_in(shape: Shape) -> Any:
    """A value of the right type that says nothing."""
    match shape:
        case Kind():
            return shape.stand_in
        case ListOf():
            return ()
        case MapOf():
            return {}
        case Table():
            return shape.section()
        case Refused():
            return None


def _default(shape: Shape, written: Any) -> Any:
    if written is None:
        return None
    match shape:
        case Kind():
            return shape.parse(written)
        case ListOf():
            return tuple(_default(shape.item, item) for item in written)
        case _:
            return stand_in(shape)


def choice(*words: str, but: dict[str, str] | None = None) -> Kind:
    """One of `words`. `but` maps words that people try to the reason why they are not taken."""

    def parse(text: str) -> str:
        if text in words:
            return text
        if but and text in but:
            raise ValueError(f"{text} is not taken: {but[text]}")
        raise ValueError(f"{text[:80]!a} is not one of {', '.join(words)}{did_you_mean(text, words)}")

    names = ", ".join(f"`{word}`" for word in words)
    return Kind(f"one of {names}" if len(words) > 1 else names, parse, words[0])


def whole(least: int, most: int = 2**53) -> Kind:
    """A whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if re.fullmatch(r"-?[0-9]{1,16}", text, re.ASCII) is None:
            raise ValueError(f"{text[:80]!a} is not a whole number")
        if not least <= int(text) <= most:
            bound = f"at least {least}" if int(text) < least else f"at most {most}"
            raise ValueError(f"{text} is out of range; {bound} is taken")
        return int(text)

    return Kind("whole number", parse, least)


def did_you_mean(word: str, known: object) -> str:
    """`; did you mean X?`, or nothing when no known word is near."""
    guess = nearest(word, known)
    return f"; did you mean {guess}?" if guess else ""


def nearest(word: str, known: Any) -> str:
    """The known word most like `word`, or nothing."""
    import difflib  # noqa: PLC0415 - 3 ms that only a typo needs to pay

    folded = {str(name).lower(): str(name) for name in known}
    found = difflib.get_close_matches(word.lower(), folded, 1, 0.6)
    return folded[found[0]] if found else ""
