"""The page of problems: where the ``type`` of every problem leads. Plain HTML, no scripts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from bc_pipeline.serving.pages.documentation import TITLE
from bc_pipeline.serving.problem_details import (
    PROBLEMS,
    ROUTER_PROBLEMS,
    meaning,
    router_code,
)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d5dae1;
  vertical-align: top; }
:target { background: #fff4c2; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e8ee; background: #12161c; }
  th, td { border-color: #36404d; }
  a { color: #7db8f5; }
  :target { background: #4a4113; }
}
"""


def page() -> str:
    """A row per problem, whose anchor is the problem's ``code``."""
    rows = "".join(
        f'<tr id="{escape(code)}"><td><code>{escape(code)}</code></td><td>{status}</td>'
        f"<td>{escape(title)}</td><td>{escape(text)}</td></tr>"
        for code, status, title, text in sorted(_entries())
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Problems: {escape(TITLE)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Problems of the {escape(TITLE)}</h1>"
        "<p>Every error is an RFC 9457 problem, <code>application/problem+json</code>. No "
        "problem repeats a value of the request. The operations are in "
        '<a href="/docs">/docs</a> and <a href="/redoc">/redoc</a>.</p>'
        "<table><thead><tr><th>Code</th><th>Status</th><th>Title</th><th>Meaning</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></body></html>"
    )


def _entries() -> Iterable[tuple[str, int, str, str]]:
    for kind, shown in PROBLEMS.items():
        yield kind.code, int(shown.status), shown.title, meaning(kind)
    for status, text in ROUTER_PROBLEMS.items():
        yield router_code(status), int(status), status.phrase, text
