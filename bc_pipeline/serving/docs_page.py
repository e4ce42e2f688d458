"""The documentation page: the OpenAPI document as plain HTML, without scripts or other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from bc_pipeline.serving.problem_details import PROBLEMS, ROUTER_PROBLEMS, router_code

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff; }
h1, h2, h3 { line-height: 1.25; }
h2 { border-top: 1px solid #d5dae1; padding-top: 1.25rem; margin-top: 2rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; background: #f2f4f7; }
pre { padding: .75rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d5dae1;
  vertical-align: top; }
.method { color: #0b5cad; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e8ee; background: #12161c; }
  code, pre { background: #1e252e; }
  th, td, h2 { border-color: #36404d; }
  .method, a { color: #7db8f5; }
}
"""


def page(document: dict[str, Any]) -> str:
    """Render an OpenAPI document of this service.

    Every problem type has a paragraph whose anchor is the problem's ``code``: that is
    where the ``type`` of a problem leads.
    """
    info = document["info"]
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in info["description"].split("\n\n"))
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>{paragraphs}"
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{operations}{_features(document)}{_problems()}</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<h2><span class="method">{escape(method.upper())}</span> {escape(path)}</h2>',
        f"<p>{escape(operation['summary'])}.</p>",
    ]
    body = operation.get("requestBody")
    if body:
        parts.append(
            "<pre>curl -s http://HOST:PORT/predict -H 'Content-Type: application/json' \\\n"
            '  -H "X-API-Key: $KEY" -d @record.json</pre>'
        )
        for example in body["content"]["application/json"].get("examples", {}).values():
            text = json.dumps(example["value"])
            parts.append(f"<h3>{escape(example['summary'])}</h3><pre>{escape(text)}</pre>")
    rows = [
        (status, response["description"]) for status, response in operation["responses"].items()
    ]
    parts.append(_table(("Status", "Meaning"), rows))
    return "".join(parts)


def _features(document: dict[str, Any]) -> str:
    forms = document["components"]["schemas"]["Record"].get("oneOf")
    if not forms:
        return "<h2>Features</h2><p>No model is live, so there are none to list.</p>"
    rows = [
        (name, f"{field['minimum']:g} to {field['maximum']:g}", field["description"])
        for name, field in forms[0]["properties"].items()
        if field["type"] == "number"
    ]
    return "<h2>Features</h2>" + _table(("Name", "Physical range", "Unit and other names"), rows)


def _problems() -> str:
    entries = [
        (kind.code, int(shown.status), shown.title, (kind.__doc__ or "").strip().splitlines()[0])
        for kind, shown in PROBLEMS.items()
    ] + [
        (router_code(status), int(status), status.phrase, meaning)
        for status, meaning in ROUTER_PROBLEMS.items()
    ]
    return "<h2>Problems</h2>" + "".join(
        f'<p id="{escape(code)}"><code>{escape(code)}</code> ({status}): {escape(title)}. '
        f"{escape(meaning)}</p>"
        for code, status, title, meaning in sorted(entries)
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
