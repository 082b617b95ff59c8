"""YAML text -> a tree of words with their lines. Nothing is constructed, resolved or executed.

The tree is composed here from the parser's events, not by yaml.compose: that one recurses in C and dies of
ten thousand brackets (a crash, not an exception), and it keeps the last of two equal keys. What YAML can do
beyond words, lists and mappings (tags, merge keys, several documents) is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from proxy.config.problem import join_key

if TYPE_CHECKING:
    from proxy.config.problem import Report

# libyaml where PyYAML was built with it: ten times faster. Only its parser is used.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MAX_DEPTH = 32
# A thousand routes are about 30,000 nodes. Aliases count with all that they stand for.
_MAX_NODES = 200_000
_CORE_TAG = "tag:yaml.org,2002:"
_TAKEN_TAGS = {None, "!", *(_CORE_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Scalar:
    """One word. `plain` is False when it was quoted, a block, or tagged."""

    __slots__ = ("line", "plain", "text", "weight")

    def __init__(self, text: str, line: int, *, plain: bool) -> None:
        self.text, self.line, self.plain, self.weight = text, line, plain, 1

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in _NULLS


class Sequence:
    """A list. `weight` counts the nodes that it expands to."""

    __slots__ = ("items", "line", "weight")

    def __init__(self, line: int) -> None:
        self.items: list[Node] = []
        self.line, self.weight = line, 1


class Mapping:
    """Keys in the order of the file, each once: key -> (line of the key, value)."""

    __slots__ = ("items", "line", "weight")

    def __init__(self, line: int) -> None:
        self.items: dict[str, tuple[int, Node]] = {}
        self.line, self.weight = line, 1


Node = Scalar | Sequence | Mapping


class _HopelessError(Exception):
    """Reading cannot go on: (line, text)."""


def parse_document(text: str, report: Report) -> Node | None:
    """The one document in `text`, or None after telling `report` why there is none."""
    if text.startswith("\ufeff"):
        report.problem("", "the file starts with a byte order mark; save it as UTF-8 without one", 1)
        return None
    parser = None
    try:
        parser = _Parser(text)
        return _compose(parser, report)
    except yaml.MarkedYAMLError as error:
        report.problem("", *_explain(error, text))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report.problem("", "a control character stands here; a configuration is plain text", line)
    except _HopelessError as error:
        line, why = error.args
        report.problem("", why, line)
    finally:
        if parser is not None:
            parser.dispose()
    return None


def _compose(parser: Any, report: Report) -> Node | None:
    parser.get_event()  # stream start
    event: Any = parser.get_event()
    if not isinstance(event, yaml.DocumentStartEvent):
        report.problem("", "the file is empty; at least one route is needed", 1)
        return None
    root = _Composer(parser, report).node(parser.get_event(), "", 0)
    parser.get_event()  # document end
    event = parser.get_event()
    if isinstance(event, yaml.DocumentStartEvent):
        line = event.start_mark.line + 1  # type: ignore[union-attr]  # the stubs allow for marks that nobody made
        raise _HopelessError(line, "a second document starts here; one file holds one configuration")
    return root


class _Composer:
    def __init__(self, parser: Any, report: Report) -> None:
        self._next = parser.get_event
        self._report = report
        self._anchors: dict[str, Node | None] = {}

    def node(self, event: Any, path: str, depth: int) -> Node:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        if depth > _MAX_DEPTH:
            raise _HopelessError(line, f"nested more than {_MAX_DEPTH} deep; no configuration is")
        if event.tag not in _TAKEN_TAGS:
            name = event.tag.replace(_CORE_TAG, "!!")
            self._report.problem(path, f"the tag {name[:80]!a} is not taken; write a plain value", line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(event.value, line, plain=bool(event.implicit[0]))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(line, path, depth)
        else:
            node = self._mapping(line, path, depth)
        if node.weight > _MAX_NODES:
            raise _HopelessError(line, "too much: aliases multiply to more than a configuration can hold")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, name: str, line: int) -> Node:
        node = self._anchors.get(name)
        if node is None:
            why = "stands inside what it names" if name in self._anchors else "names no anchor above it"
            raise _HopelessError(line, f"the alias *{ascii(name)[1:-1]} {why}; quote a value that begins with *")
        return node

    def _sequence(self, line: int, path: str, depth: int) -> Sequence:
        sequence = Sequence(line)
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            item = self.node(event, f"{path}[{len(sequence.items)}]", depth + 1)
            sequence.items.append(item)
            sequence.weight += item.weight
        return sequence

    def _mapping(self, line: int, path: str, depth: int) -> Mapping:
        mapping = Mapping(line)
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key_line = event.start_mark.line + 1
            key = self.node(event, path, depth + 1)
            if not isinstance(key, Scalar):
                raise _HopelessError(key_line, "a key must be a word, not a list or a mapping")
            key_path = join_key(path, key.text)
            value = self.node(self._next(), key_path, depth + 1)
            mapping.weight += value.weight + 1
            if key.text == "<<" and key.plain:
                self._report.problem(path, "merge keys (<<) are not taken; write the keys out", key_line)
            elif key.text in mapping.items:
                first = mapping.items[key.text][0]
                self._report.problem(key_path, f"written twice; the first is in line {first}", key_line)
            else:
                mapping.items[key.text] = (key_line, value)
        return mapping


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int]:
    """What a syntax error of YAML means for the one who wrote it, and its line."""
    if "quoted scalar" in (error.context or "") and "end of stream" in (error.problem or "") and error.context_mark:
        return "a quoted value begins here and never ends", error.context_mark.line + 1
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"not YAML: {error.problem}", 0
    lines = text.splitlines() or [""]
    line = min(mark.line, len(lines) - 1)
    here = lines[line][mark.column :] if mark.line < len(lines) else ""
    if "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
        return "a tab; YAML is indented with spaces", line + 1
    if here[:1] in {"@", "`", "%"}:
        return f"a value that begins with {here[0]} must be quoted", line + 1
    if "mapping values are not allowed" in (error.problem or ""):
        return "a second ': ' in one line, or a key that is indented too far; quote a value that holds ': '", line + 1
    if "${" in lines[line]:
        return "not YAML; a value with ${...} is quoted between { } and [ ]", line + 1
    context = f"{error.context}: " if error.context else ""
    begun = f" (it begins in line {error.context_mark.line + 1})" if error.context_mark else ""
    return f"not YAML: {context}{error.problem}{begun}", line + 1
