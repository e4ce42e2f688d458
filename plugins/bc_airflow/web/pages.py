"""Turn records into HTML. Every value is escaped; the style sheet is the only thing inlined."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from bc_airflow.text import number, outcome
from bc_airflow.volume import Judged
from bc_pipeline.artifacts.manifest import Registry

_FOLDER = Path(__file__).parent
_AUDIT_COLUMNS = ("at", "version", "actor", "run_id")
KINDS = {
    "first": "There was no champion: absolute floors and the smoke test decided.",
    "refresh": "The champion's recipe on the data of another time.",
    "switch": "Another recipe than the champion's: it had to be better, not only as good.",
}


@cache
def _style() -> str:
    return (_FOLDER / "style.css").read_text("utf-8")


@cache
def content_security_policy() -> str:
    """Nothing but our style sheet and our figures; no script at all."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "short": lambda text: text[:12]}
    environment.globals |= {"outcome": outcome, "kinds": KINDS}
    return environment


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(style=_style(), **values)


def message_page(title: str, message: str) -> str:
    return _render("message.html", title=title, message=message)


def verdict_page(judged: Judged, registry: Registry, base: str) -> str:
    """One version: verdict, checks, figures.

    Parameters
    ----------
    base : str
        URL of the DAG's pages, without a slash at its end.
    """
    return _render("verdict.html", judged=judged, registry=registry, base=base)


def models_page(
    problem: str,
    registry: Registry,
    history: list[Judged],
    audit: list[dict[str, Any]],
    base: str,
) -> str:
    """All of a problem: what is live, what was judged, what was done."""
    rows = [
        {name: entry.get(name) or "" for name in _AUDIT_COLUMNS} | {"event": _what(entry)}
        for entry in audit
    ]
    return _render(
        "models.html", problem=problem, registry=registry, history=history, audit=rows, base=base
    )


def _what(entry: dict[str, Any]) -> str:
    """The event with its outcome: an approval that was refused must not read as one given."""
    event, details = str(entry.get("event", "")), entry.get("details") or {}
    if event == "approval":
        return "approval given" if details.get("approved") else "approval refused"
    if event == "verdict":
        return "verdict: passed" if details.get("passed") else "verdict: rejected"
    return event.replace("_", " ")
