"""HTML pages. Every value is escaped; only style sheet and theme script are inlined."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

from bc_airflow.text import number, outcome
from bc_airflow.volume import Judged
from bc_airflow.web.card import render_card
from bc_airflow.web.findings import findings_of, how_chosen
from bc_pipeline.artifacts.manifest import Registry

_FOLDER = Path(__file__).parent
_STYLE, _THEME = "style.css", "theme.js"
_AUDIT_COLUMNS = ("at", "version", "actor", "run_id")
KINDS = {
    "first": "There was no champion: absolute floors and the smoke test decided.",
    "refresh": "The champion's recipe on the data of another time.",
    "switch": "Another recipe than the champion's: it had to be better, not only as good.",
}


@dataclass(frozen=True)
class RunEvents:
    """Notes about what a run's ingest refused, and its tasks that failed."""

    notes: Sequence[str] = ()
    failures: Sequence[str] = ()


NO_EVENTS = RunEvents()


@cache
def _inlined(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def _source(name: str) -> str:
    """An inlined file as a source of a Content-Security-Policy: by its digest."""
    digest = hashlib.sha256(_inlined(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def content_security_policy() -> str:
    """Allow our style sheet, our theme script and our figures only."""
    return (
        f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_THEME)}; "
        "img-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )


@cache
def data_docs_policy() -> str:
    """As `content_security_policy`, for the style sheets in the Data Docs.

    Without `sandbox`: the pages link to each other, and a sandboxed page gets no cookies.
    """
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {_source(_THEME)}; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )


def with_theme(html: str) -> str:
    """A page of the Data Docs that follows Airflow's theme."""
    return html.replace("</head>", f"<script>{_inlined(_THEME)}</script></head>", 1)


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
    return (
        _environment()
        .get_template(template)
        .render(style=_inlined(_STYLE), theme=_inlined(_THEME), **values)
    )


def message_page(title: str, message: str, run: RunEvents = NO_EVENTS) -> str:
    return _render("message.html", title=title, message=message, run=run)


def card_page(version: str, card: str, base: str) -> str:
    """The model card of a version, of Markdown."""
    return _render("card.html", version=version, card=render_card(card), base=base)


def verdicts_page(
    judged: list[Judged],
    registry: Registry,
    base: str,
    run: RunEvents = NO_EVENTS,
    why_selected: str = "",
    requests: Mapping[str, Sequence[str]] = MappingProxyType({}),
    decisions: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """Each challenger of a run, the winner first: findings, figures, checks.

    Parameters
    ----------
    judged : list of Judged
        One or more.
    base : str
        URL of the DAG's pages, without a slash at its end.
    why_selected : str
        Why the selected candidate was selected, where that is known.
    requests : mapping of str to sequence of str
        By version, who started the runs that judged it; nobody for the schedule.
    decisions : mapping of str to sequence of str
        By version, who approved, refused, promoted it or rolled it back, and why.
    """
    challengers = [
        (each, findings_of(each.verdict), how_chosen(each, judged, why_selected)) for each in judged
    ]
    return _render(
        "verdicts.html",
        challengers=challengers,
        registry=registry,
        base=base,
        run=run,
        requests=requests,
        decisions=decisions,
    )


def models_page(
    problem: str,
    registry: Registry,
    history: list[Judged],
    audit: list[dict[str, Any]],
    base: str,
) -> str:
    """All of a problem: what is live, what was judged, what was done."""
    rows = [
        {name: entry.get(name) or "" for name in _AUDIT_COLUMNS}
        | {"event": _what(entry), "reason": (entry.get("details") or {}).get("reason", "")}
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
