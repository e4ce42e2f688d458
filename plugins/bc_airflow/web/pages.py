"""HTML pages. Every value is escaped; only the style sheet is inlined."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
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
    """Allow our style sheet and our figures only, and no scripts."""
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


def message_page(title: str, message: str, notes: Sequence[str] = ()) -> str:
    return _render("message.html", title=title, message=message, notes=notes)


def verdicts_page(
    judged: list[Judged], registry: Registry, base: str, notes: Sequence[str] = ()
) -> str:
    """Each challenger of a run, the winner first: verdict, checks, figures.

    Parameters
    ----------
    judged : list of Judged
        One or more.
    base : str
        URL of the DAG's pages, without a slash at its end.
    notes : sequence of str
        Notes about files and rows that the run's ingest refused.
    """
    return _render("verdicts.html", challengers=judged, registry=registry, base=base, notes=notes)


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
    """The event with its outcome: a refused approval must not look like an approval."""
    event, details = str(entry.get("event", "")), entry.get("details") or {}
    if event == "approval":
        return "approval given" if details.get("approved") else "approval refused"
    if event == "verdict":
        return "verdict: passed" if details.get("passed") else "verdict: rejected"
    if event.startswith("batch_"):
        return f"{event.replace('_', ' ')}: {details.get('batch', '')}"
    return event.replace("_", " ")
