"""The page of problems: where the ``type`` of every problem leads."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.pages.documentation import TITLE
from bc_pipeline.serving.pages.text_page import text_page
from bc_pipeline.serving.problem_details import (
    ROUTER_PROBLEMS,
    meaning,
    problem_type,
    router_code,
)


def page() -> str:
    """A row per problem, whose anchor is the problem's ``code``."""
    rows = "".join(
        f'<tr id="{escape(code)}"><td><code>{escape(code)}</code></td><td>{status}</td>'
        f"<td>{escape(title)}</td><td>{escape(text)}</td></tr>"
        for code, status, title, text in sorted(_entries())
    )
    return text_page(
        f"Problems: {TITLE}",
        f"<h1>Problems of the {escape(TITLE)}</h1>"
        "<p>Every error is an RFC 9457 problem, <code>application/problem+json</code>. No "
        "problem repeats a value of the request. The operations are in "
        '<a href="/docs">/docs</a> and <a href="/redoc">/redoc</a>.</p>'
        "<table><thead><tr><th>Code</th><th>Status</th><th>Title</th><th>Meaning</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>",
    )


def _entries() -> Iterable[tuple[str, int, str, str]]:
    for kind in _told(PipelineError):
        shown = problem_type(kind)
        yield kind.code, int(shown.status), shown.title, meaning(kind)
    for status, text in ROUTER_PROBLEMS.items():
        yield router_code(status), int(status), status.phrase, text


def _told(kind: type[PipelineError]) -> Iterable[type[PipelineError]]:
    """An error and all below it that clients see: of faults of the service they see the root."""
    fault = problem_type(kind) is problem_type(PipelineError)
    if kind is PipelineError or (not fault and "code" in vars(kind)):
        yield kind
    for below in kind.__subclasses__():
        yield from _told(below)
