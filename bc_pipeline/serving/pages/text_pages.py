"""The HTML pages of text, health and error types: no scripts, one stylesheet of this service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.error_responses import (
    ROUTER_ERRORS,
    describe,
    error_type,
    router_code,
)
from bc_pipeline.serving.pages.docs_page import asset_url
from bc_pipeline.serving.pages.documentation import TITLE

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render_health(facts: Mapping[str, Any], error: PipelineError | None) -> str:
    """Render the facts of ``/health``.

    Parameters
    ----------
    error : PipelineError or None
        Why the service cannot answer predictions; None where it can.
    """
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in _flatten(facts)
    )
    return _render(
        "Health of the prediction service",
        f"<h1>Prediction service</h1>{_verdict(error)}<table><tbody>{rows}</tbody></table>",
    )


def render_root(
    notice: str, links: Mapping[str, str], version: str | None, error: PipelineError | None
) -> str:
    """Render what a person who opens the service's address sees.

    Parameters
    ----------
    links : mapping of str to str
        Addresses by their titles.
    version : str or None
        The champion; None where none is loaded.
    error : PipelineError or None
        Why the service cannot answer predictions; None where it can.
    """
    champion = "" if version is None else f"<p>Champion: <code>{escape(version)}</code></p>"
    items = "".join(
        f'<li><a href="{escape(address)}">{escape(title)}</a></li>'
        for title, address in links.items()
    )
    return _render(
        TITLE,
        f"<h1>{escape(TITLE)}</h1><p>{escape(notice)}</p>{_verdict(error)}{champion}"
        f"<ul>{items}</ul>",
    )


def _verdict(error: PipelineError | None) -> str:
    if error is None:
        return '<p class="ok">Predictions are answered.</p>'
    return f'<p class="not">Predictions are not answered. {escape(str(error))}</p>'


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{title}: ")
        elif value is not None:
            yield title, str(value)


def render_error_types() -> str:
    """Render the page; the anchor of each row is the error's ``code``."""
    rows = "".join(
        f'<tr id="{escape(code)}"><td><code>{escape(code)}</code></td><td>{status}</td>'
        f"<td>{escape(title)}</td><td>{escape(text)}</td></tr>"
        for code, status, title, text in sorted(_error_types())
    )
    return _render(
        f"Errors: {TITLE}",
        f"<h1>Errors of the {escape(TITLE)}</h1>"
        "<p>Error responses are RFC 9457 problem details, <code>application/problem+json</code>. "
        "None repeats a value of the request. The operations are in "
        '<a href="docs">docs</a> and <a href="redoc">redoc</a>.</p>'
        "<table><thead><tr><th>Code</th><th>Status</th><th>Title</th><th>Meaning</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>",
    )


def _error_types() -> Iterable[tuple[str, int, str, str]]:
    for kind in _visible(PipelineError):
        response = error_type(kind)
        yield kind.code, int(response.status), response.title, describe(kind)
    for status, text in ROUTER_ERRORS.items():
        yield router_code(status), int(status), status.phrase, text


def _visible(kind: type[PipelineError]) -> Iterable[type[PipelineError]]:
    """An error class and its subclasses that clients see: internal errors appear as the root."""
    internal = error_type(kind) is error_type(PipelineError)
    if kind is PipelineError or (not internal and "code" in vars(kind)):
        yield kind
    for subclass in kind.__subclasses__():
        yield from _visible(subclass)


def _render(title: str, body: str) -> str:
    """Render a page.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML; the caller has escaped all text in it.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)}</title><link rel="icon" href="{asset_url("icon.svg")}">'
        f'<link rel="stylesheet" href="{asset_url("text.css")}"></head><body>{body}</body></html>'
    )
