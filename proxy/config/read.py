"""The file -> Loaded, or every reason why not. Whoever needs the configuration calls `load`, and nothing else."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from proxy.config import build, restart
from proxy.config.document import Mapping, Node, Scalar, Sequence, parse_document
from proxy.config.problem import ConfigError, Problem, Report, join_key, printable
from proxy.config.schema import Config, Settings
from proxy.config.shape import Kind, ListOf, MapOf, Option, Refused, Section, Shape, Table, nearest, stand_in
from proxy.config.words import FILE

if TYPE_CHECKING:
    from collections.abc import Mapping as Env
    from pathlib import Path

    from proxy.config.units import Address
    from proxy.gate.snapshot import Snapshot
    from proxy.stamp import Stamp

__all__ = ["ConfigError", "Loaded", "Problem", "load"]

S = TypeVar("S", bound=Section)

_ENV = re.compile(r"\$\{env:([^}]*)\}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
#: A file that promgate writes and nothing here reads: `config.delivery` holds it against all others.
_TARGET = re.compile(r"tokens\.deliver\b.*\.file").fullmatch
#: A thousand routes are 300 KB; what is larger is not a configuration, or not meant for people.
_MAX_FILE_BYTES = 4 * 1024 * 1024
#: A key set is a few KB.
_MAX_VALUE_BYTES = 1024 * 1024


class Loaded(NamedTuple):
    """What a good file means. `warnings` are lawful things that an operator should know of.

    `files` are the file and those that it names, each in the state in which it was read. `listen` are the addresses
    that were given in the place of the file's own. `certificates` are the files of certificates, by the option that
    names them; `lines` has the lines of these options. `waits` are options that say what a running process only takes
    at its next start; the rest is what they said before.
    """

    snapshot: Snapshot
    settings: Settings
    warnings: list[Problem]
    files: Env[Path, Stamp]
    listen: tuple[Address, ...] = ()
    certificates: Env[str, Path] = {}
    lines: Env[str, int] = {}
    waits: tuple[str, ...] = ()


def load(
    path: Path,
    *,
    open_files: bool = True,
    env: Env[str, str] = os.environ,
    listen: tuple[Address, ...] = (),
    running: Loaded | None = None,
) -> Loaded:
    """Read and check the file at `path`; raises ConfigError with every problem.

    `listen`, where it is not empty, stands for the option of that name, and is judged in its place.
    `running` is what the process serves by that is to take it: it must be good as it is written, and for that process.
    `open_files` False is for commands that only work on the token store: certificates and key sets, which
    their user may not be allowed to read, are not opened, and the Snapshot holds no JWT issuers.
    """
    report = Report(str(path))
    text = _text_of(path, report)
    node = None if text is None else parse_document(text, report)
    if node is None:
        raise ConfigError(report.problems, report.files)
    base = path.absolute().parent
    config = _Reader(report, base if open_files else None, env).root(node)
    if config is None:
        raise ConfigError(report.problems, report.files)
    if listen:
        config.listen = listen
        report.lines = {key: line for key, line in report.lines.items() if key.partition("[")[0] != "listen"}
    snapshot, settings = build.build(config, report, path.absolute(), open_files=open_files)
    lines = {option: report.line_of(option) for option in report.certificates}
    warnings = report.finish()
    waits = () if running is None else restart.hold(config, running)
    if waits:
        held = report.again()
        snapshot, settings = build.build(config, held, path.absolute(), open_files=open_files)
        held.finish()
    if running is not None:
        settings = restart.as_running(settings, running)
    return Loaded(snapshot, settings, warnings, report.files, listen, report.certificates, lines, waits)


def _text_of(path: Path, report: Report) -> str | None:
    report.reads(path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        report.problem("", f"cannot be read: {error.strerror}", 0)
        return None
    if len(raw) > _MAX_FILE_BYTES:
        report.problem("", f"larger than {_MAX_FILE_BYTES} bytes; this is no configuration", 0)
        return None
    if mode & stat.S_IWOTH and stat.S_ISREG(mode):
        report.problem("", f"anybody on this machine can change the file (mode {mode & 0o777:04o}); run chmod o-w", 0)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        report.problem("", "not UTF-8; save the file as UTF-8", raw.count(b"\n", 0, error.start) + 1)
        return None


def _value_in(path: Path, report: Report) -> str:
    """What an `X_file` holds, without the line break that editors and `echo` leave at the end."""
    report.reads(path)
    with path.open("rb") as file:
        raw = file.read(_MAX_VALUE_BYTES + 1)
    if len(raw) > _MAX_VALUE_BYTES:
        raise ValueError
    return raw.decode().rstrip("\r\n")


class _Reader:
    """Holds the tree against the schema. `base` None: no file that an option names is opened."""

    def __init__(self, report: Report, base: Path | None, env: Env[str, str]) -> None:
        self._report, self._base, self._env = report, base, env

    def root(self, node: Node) -> Config | None:
        self._report.lines[""] = node.line
        if not isinstance(node, Mapping):
            self._report.problem("", f"a mapping of options is wanted here, not {_name_of(node)}")
            return None
        return self._section(Config, node, "")

    def _section(self, section: type[S], node: Mapping, path: str) -> S:
        values: dict[str, Any] = {}
        files: dict[str, str] = {}
        for key, (line, value) in node.items.items():
            key_path = join_key(path, key)
            self._report.lines[key_path] = line
            known = section.options.get(key)
            twin = section.options.get(key.removesuffix("_file")) if known is None else None
            if known is not None:
                values[key] = self._value(known.shape, value, key_path)
            elif twin is not None and twin.has_file and key.endswith("_file"):
                name = key.removesuffix("_file")
                files[name] = self._twin(twin, name, node, values, value, key_path)
            else:
                self._unknown(section, key, node, path)
        for key, known in section.options.items():
            key_path = join_key(path, key)
            if known.is_required and key not in values and self._report.is_sound(key_path):
                self._report.problem(key_path, f"missing. {_first_sentence(known)}")
        return section(path, values, files)

    def _unknown(self, section: type[Section], key: str, node: Mapping, path: str) -> None:
        taken = [name for name, known in section.options.items() if not isinstance(known.shape, Refused)]
        taken += [f"{name}_file" for name, known in section.options.items() if known.has_file]
        guess = nearest(key, taken)
        if guess and guess not in node.items:
            # It may hold what was meant for the option nearby, so nothing is said of that one's absence.
            self._report.distrust(join_key(path, guess if guess in section.options else guess.removesuffix("_file")))
        hint = f"did you mean {guess}?" if guess else f"taken here: {', '.join(taken)}"
        self._report.problem(join_key(path, key), f"unknown key; {hint}")

    def _twin(
        self, known: Option, key: str, section: Mapping, values: dict[str, Any], node: Node, path: str
    ) -> str:
        """`X_file`: the value of X stands in a file, whose path is returned."""
        values[key] = stand_in(known.shape)
        value_path = path.removesuffix("_file")
        self._report.lines.setdefault(value_path, self._report.lines[path])
        name = self._scalar(node, path, "the name of a file")
        if name is not None:
            self._report.names.add(name)
        if key in section.items:
            self._report.problem(path, f"{key} and {key}_file exclude each other; write one of them")
        elif name is not None and self._base is not None:
            try:
                text = _value_in(self._base / name, self._report)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "not a text of at most 1 MiB"
                self._report.problem(path, f"{printable(self._base / name)} cannot be read: {why}")
            else:
                values[key] = self._parse(known.word, text, path)
                return str(self._base / name)
        self._report.distrust(value_path)
        return ""

    def _value(self, shape: Shape, node: Node, path: str) -> Any:
        match shape:
            case Kind():
                return self._word(shape, node, path)
            case ListOf():
                return self._list(shape, node, path)
            case MapOf():
                return self._map(shape, node, path)
            case Table():
                return self._table(shape, node, path)
            case Refused():
                if not (isinstance(node, Scalar) and shape.harmless and node.text == shape.harmless):
                    self._report.problem(path, f"not taken: {shape.reason}")
                return None

    def _list(self, shape: ListOf, node: Node, path: str) -> tuple[Any, ...]:
        if isinstance(node, Sequence):
            for index, item in enumerate(node.items):
                self._report.lines[f"{path}[{index}]"] = item.line
            return tuple(self._value(shape.item, item, f"{path}[{index}]") for index, item in enumerate(node.items))
        if isinstance(node, Scalar) and node.is_null:
            return ()
        if shape.or_one and (isinstance(node, Scalar) or isinstance(shape.item, Table)):
            return (self._value(shape.item, node, path),)
        self._wrong(path, "a list", node)
        return ()

    def _map(self, shape: MapOf, node: Node, path: str) -> dict[str, Any]:
        if isinstance(node, Scalar) and node.is_null:
            return {}
        if not isinstance(node, Mapping):
            self._wrong(path, f"a mapping with a {shape.key} for each key", node)
            return {}
        values = {}
        for key, (line, value) in node.items.items():
            self._report.lines[join_key(path, key)] = line
            values[key] = self._value(shape.item, value, join_key(path, key))
        return values

    def _table(self, shape: Table, node: Node, path: str) -> Section:
        if isinstance(node, Mapping):
            return self._section(shape.section, node, path)
        brief = shape.section.options[shape.short].shape if shape.short else None
        if (isinstance(brief, ListOf) and isinstance(node, Sequence)) or (brief and isinstance(node, Scalar)):
            return shape.section(path, {shape.short: self._value(brief, node, path)})
        if isinstance(node, Scalar) and node.is_null:
            return self._section(shape.section, Mapping(node.line), path)
        self._wrong(path, "a mapping of options", node)
        return shape.section(path)

    def _scalar(self, node: Node, path: str, wanted: str) -> str | None:
        """The text of a word with the environment filled in, or None after a problem."""
        if not isinstance(node, Scalar):
            self._wrong(path, _article(wanted), node)
            return None
        if node.is_null:
            self._report.problem(path, "no value; write one, or take the key away")
            return None
        return self._filled(node.text, path) if "${" in node.text else node.text

    def _filled(self, text: str, path: str) -> str | None:
        for name in _ENV.findall(text):
            if _ENV_NAME.fullmatch(name) is None:
                self._report.problem(path, f"{ascii('${env:' + name[:80] + '}')[1:-1]} names no environment variable")
                return None
            if name not in self._env:
                self._report.problem(path, f"the environment variable {name} is not set")
                return None
        return _ENV.sub(lambda match: self._env[match[1]], text)

    def _word(self, kind: Kind, node: Node, path: str) -> Any:
        text = self._scalar(node, path, kind.name)
        if text is None:
            return kind.stand_in
        if kind is FILE and _TARGET(path) is None:
            self._report.names.add(text)
        written = node.text if isinstance(node, Scalar) else ""
        return self._parse(kind, text, path, written if written != text else "")

    def _parse(self, kind: Kind, text: str, path: str, written: str = "") -> Any:
        """The value of `text`. `written` is what stands in the file where that is something else (`${env:NAME}`)."""
        try:
            return kind.parse(text)
        except ValueError as error:
            # The environment is where secrets are kept: what it held is not repeated.
            hidden = f"what {written[:80]!a} stands for cannot be taken; {_article(kind.name)} is wanted"
            self._report.problem(path, hidden if written else str(error))
            return kind.stand_in

    def _wrong(self, path: str, wanted: str, node: Node) -> None:
        self._report.problem(path, f"{wanted} is wanted here, not {_name_of(node)}")


def _name_of(node: Node) -> str:
    match node:
        case Scalar():
            return "nothing" if node.is_null else "a single value"
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"


def _article(kind: str) -> str:
    return kind if kind.startswith(("the ", "one of", "`")) else f"{'an' if kind[0] in 'aeo' else 'a'} {kind}"


def _first_sentence(known: Option) -> str:
    return known.doc.split(". ", 1)[0].rstrip(".") + "."
