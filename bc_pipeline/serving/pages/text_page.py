"""A page of text: plain HTML without a script, whose style is an asset of this service."""

from __future__ import annotations

from html import escape

from bc_pipeline.serving.pages.docs_page import address_of

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def text_page(title: str, body: str) -> str:
    """A whole page.

    Parameters
    ----------
    title : str
        Text.
    body : str
        HTML, in which all text is escaped.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)}</title><link rel="icon" href="{address_of("icon.svg")}">'
        f'<link rel="stylesheet" href="{address_of("text.css")}"></head><body>{body}</body></html>'
    )
