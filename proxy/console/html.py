"""Pages from elements: text is escaped where it is put in, and there is no other way to put it in.

No template language is worth its memory for one page; what could go wrong with strings cannot go wrong here.
"""

from __future__ import annotations

from html import escape
from typing import TypeAlias

#: Elements that have no content and no end (HTML, 13.1.2 Elements, "void elements").
_VOID = frozenset({"meta", "link", "input"})


class Markup(str):
    """HTML that was made by `tag`."""

    __slots__ = ()


Content: TypeAlias = "str | Markup | tuple[Content, ...] | list[Content]"


def tag(element: str, /, *content: Content, **attributes: str) -> Markup:
    """One element. `class_` stands for the attribute that is a word of Python, `data_name` for `data-name`."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    if element in _VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{_inside(content)}</{element}>")


def page(title: str, style: str, *content: Content) -> str:
    """A whole document; `style` is the address of its style sheet."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href=style),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *content), lang='en')}\n"


def logout_form(logout: str) -> Markup:
    """A button: what changes something is never a link."""
    return tag("form", tag("button", "Log out", type="submit"), method="post", action=logout)


def _inside(content: Content) -> str:
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return escape(content)
    return "".join(map(_inside, content))
