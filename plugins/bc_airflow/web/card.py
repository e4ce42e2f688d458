"""The model card as HTML: its Markdown has tables, and no HTML of its own is let through."""

from __future__ import annotations

from functools import cache

from markdown_it import MarkdownIt
from markupsafe import Markup


@cache
def _parser() -> MarkdownIt:
    # Without HTML and images; links have schemes that run no script.
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def render_card(text: str) -> Markup:
    """HTML of a card; wide tables scroll by themselves."""
    html = _parser().render(text)
    html = html.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )
    return Markup(html)  # noqa: S704 - the parser escapes all text
