"""docs/configuration.md and the full example know every option of the schema, and the page is up to date."""

from __future__ import annotations

from pathlib import Path

import yaml

from proxy.config.docs import render
from proxy.config.schema import Config
from proxy.config.shape import ListOf, MapOf, Refused, Table

ROOT = Path(__file__).parents[2]


def sections(section=Config):
    yield section
    for option in section.options.values():
        inner = option.shape
        while isinstance(inner, ListOf | MapOf):
            inner = inner.item
        if isinstance(inner, Table):
            yield from sections(inner.section)


def options():
    return [(key, option) for section in sections() for key, option in section.options.items()]


def test_the_page_is_up_to_date():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m proxy.config.docs > docs/configuration.md"


def test_every_option_is_on_the_page():
    page = render()
    for key, option in options():
        if isinstance(option.shape, Refused):
            assert option.shape.reason in page
            assert f"{key}` |" in page
        else:
            assert option.doc
            assert f"| {option.doc} |" in page
            assert f"| `{key}`" in page


def test_every_option_is_in_the_full_example():
    written = set()

    def collect(node):
        if isinstance(node, dict):
            written.update(node)
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(inner)

    collect(yaml.safe_load((ROOT / "config" / "promgate.yml").read_text()))
    wanted = {f"{key}_file" if option.has_file else key for key, option in options() if _is_taken(option)}
    assert wanted - written == set()


def _is_taken(option):
    return not isinstance(option.shape, Refused) or bool(option.shape.harmless)
