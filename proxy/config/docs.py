"""Writes docs/configuration.md from the schema: `python -m proxy.config.docs > docs/configuration.md`.

Never imported by a running promgate. tests/config/test_docs.py holds the page and the schema together.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

from proxy.config.schema import Config
from proxy.config.shape import Kind, ListOf, MapOf, Option, Refused, Section, Shape, Table
from proxy.config.web_config import PROMETHEUS_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """\
# Configuration

<!-- Made by `python -m proxy.config.docs` from the options in proxy/config/; change them there. -->

One YAML file, named by `--config.file`. `promgate check` says whether it is good; if it is not, it prints every
problem as `file:line: path: text`. `config/` holds examples, from `minimal.yml` to `promgate.yml` with everything.

- Key names are Prometheus' own wherever it has one. An unknown key is a problem, and so is a key written twice.
- **Durations** are Prometheus': `250ms`, `30s`, `5m`, `1h30m`, `24h`, `90d` (units ms, s, m, h, d, w, y, large before
  small; a day is 24 hours, a year 365 days).
- **Sizes** are whole numbers with B, KB, MB, GB or TB, or bare bytes. As in Prometheus, `1KB` is 1024 bytes, just like
  `1KiB`.
- `${env:NAME}` in a value is replaced by the environment variable; one that is not set is a problem. Quote the value
  inside `{...}` and `[...]`.
- Relative paths start at the directory of the configuration file.
- YAML anchors and aliases are taken; merge keys (`<<`), tags and several documents are not.
- Lawful but unusual values (an `overlap_period` of 30s) are taken with a warning.
- A password hash is never printed: it shows as `<secret>`.
"""

_PASTED_HEAD = """
## Prometheus' web config, key by key

A `web-config.yml` can be pasted: what is honoured means what it means there, and the rest is refused by name, never
ignored.

| key | | |
|---|---|---|
"""

_REFUSED_HEAD = """
## Other keys that are refused

| key | why |
|---|---|
"""


def render() -> str:
    """The whole page."""
    sections = list(_sections(Config, ""))
    parts = [_HEAD, *(_render_section(section, path) for path, section in sections)]
    known = {_join(path, key): option for path, section in sections for key, option in section.options.items()}
    pasted = (_render_pasted(key, known[key]) for key in PROMETHEUS_KEYS)
    refused = [
        f"| `{key}` | {option.shape.reason}{_except(option.shape)} |\n"
        for key, option in known.items()
        if isinstance(option.shape, Refused) and key not in PROMETHEUS_KEYS
    ]
    return "".join([*parts, _PASTED_HEAD, *pasted, *([_REFUSED_HEAD, *refused] if refused else [])])


def _render_pasted(key: str, known: Option) -> str:
    shape = known.shape
    if isinstance(shape, Refused):
        return f"| `{key}` | refused | {shape.reason}{_except(shape)} |\n"
    values = _name(shape)
    return f"| `{key}` | honoured | {values if values.startswith(('one of', '`')) else ''} |\n"


def _sections(section: type[Section], path: str) -> Iterator[tuple[str, type[Section]]]:
    yield path, section
    for key, known in section.options.items():
        inner, suffix = known.shape, ""
        while isinstance(inner, ListOf | MapOf):
            inner, suffix = inner.item, "[]"
        if isinstance(inner, Table):
            yield from _sections(inner.section, _join(path, key) + suffix)


def _render_section(section: type[Section], path: str) -> str:
    rows = [
        f"| `{key}`{f', `{key}_file`' if known.has_file else ''} | {_name(known.shape)} | {_default(known)} "
        f"| {known.doc} |\n"
        for key, known in section.options.items()
        if not isinstance(known.shape, Refused)
    ]
    title = f"`{path}`" if path else "The file"
    table = "\n| key | value | default | |\n|---|---|---|---|\n" if rows else ""
    said = inspect.cleandoc(section.__doc__ or "")
    return f"\n## {title}\n\n{said}\n{table}{''.join(rows)}"


def _name(shape: Shape) -> str:
    match shape:
        case Kind():
            return shape.name
        case ListOf():
            return f"list of {_plural(_name(shape.item))}{', or one' if shape.or_one else ''}"
        case MapOf():
            inner = _name(shape.item)
            return f"{shape.key} -> {inner}"
        case Table(short=""):
            return "section"
        case Table():
            return f"section or {shape.short}"
        case Refused():
            return ""


def _plural(name: str) -> str:
    if name.startswith("one of"):
        return name.removeprefix("one of ")
    if name.endswith("ty"):
        return name.removesuffix("y") + "ies"
    return " or ".join(word + ("es" if word.endswith(("s", "sh")) else "s") for word in name.split(" or "))


def _default(known: Option) -> str:
    if known.is_required:
        return "required"
    return f"`{known.default_text}`" if known.default_text else ""


def _except(shape: Refused) -> str:
    return f" (`{shape.harmless}` is taken)" if shape.harmless else ""


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


if __name__ == "__main__":
    sys.stdout.write(render())
