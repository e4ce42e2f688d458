"""The Data Docs site, which shows validations.

Great Expectations renders suites and results; the pages around them are written here. Its own
pages load scripts and styles from half a dozen hosts and its index is blank without them,
but this site is read on networks that often have no access to the internet. Every page is signed;
the plugin of Airflow verifies it, and a browser that opens the file does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.signed_document import (
    read_signed_document,
    remove_signatures,
    write_signed,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time
from bc_pipeline.data.suite_result import ValidationDocument
from bc_pipeline.data.suites import PURPOSES

INDEX_ROWS = 200


@dataclass(frozen=True)
class Section:
    """A section of a page: its heading, and HTML as Great Expectations rendered it."""

    title: str
    html: str


def escape_strings(result: Any) -> Any:
    """Escape all strings for HTML; Great Expectations does not escape names."""
    if isinstance(result, dict):
        return {name: escape_strings(value) for name, value in result.items()}
    if isinstance(result, list):
        return [escape_strings(value) for value in result]
    return escape(result) if isinstance(result, str) else result


def publish_validation(
    store: Store,
    validation: ValidationDocument,
    results: Sequence[Section],
    suite: Sequence[Section],
    suite_notes: Sequence[str],
) -> None:
    """Add a validation to the site: its page, the suite's page and the index.

    Each file is replaced atomically, the index last, so a reader sees neither half a page
    nor a link to a missing one.
    """
    name = f"{validation.problem} {validation.purpose}"
    outcome = "passed" if validation.passed else "failed"
    head = [
        _fields(
            ("Outcome", f'<b class="{outcome}">{outcome}</b>'),
            ("Suite", f'<a href="../expectations/{validation.purpose}.html">{escape(name)}</a>'),
            ("Rows", f"{validation.rows:,}"),
            ("Expectations", str(validation.expectations)),
            ("Validation", f"<code>{validation.validation}</code>"),
            ("Suite digest", f"<code>{validation.suite_sha256}</code>"),
        ),
        _listing("Failed", validation.failed),
        _listing("Warnings", validation.warnings),
    ]
    with locked(store.lock(store.data_docs)):
        _write_page(
            store,
            store.validation_page(validation.validation),
            f"Validation {validation.validation}",
            head,
            results,
        )
        _write_page(
            store,
            store.suite_page(validation.purpose),
            f"Expectation suite {name}",
            [_listing("", suite_notes)],
            suite,
        )
        _write_index(store)


def _write_index(store: Store) -> None:
    newest = sorted(
        store.validations.glob("*.json"), key=lambda path: (-path.stat().st_mtime, path.name)
    )
    rows = []
    for path in newest[:INDEX_ROWS]:
        validation = read_signed_document(store, path, ValidationDocument)
        name = validation.validation
        if not store.validation_page(name).is_file():
            continue
        outcome = "passed" if validation.passed else "failed"
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        rows.append(
            f'<tr><td><b class="{outcome}">{outcome}</b></td>'
            f'<td><a href="validations/{name}.html">{name}</a></td>'
            f'<td><a href="expectations/{validation.purpose}.html">{validation.purpose}</a></td>'
            f"<td>{validation.rows:,}</td><td>{len(validation.failed)}</td>"
            f"<td>{len(validation.warnings)}</td><td>{format_time(written)}</td></tr>"
        )
    suites = [
        f'<li><a href="expectations/{purpose}.html">{purpose}</a></li>'
        for purpose in PURPOSES
        if store.suite_page(purpose).is_file()
    ]
    listing = (
        '<div class="table-responsive"><table><thead><tr>'
        "<th>Outcome</th><th>Validation</th><th>Suite</th><th>Rows</th>"
        "<th>Failed</th><th>Warnings</th><th>Checked</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    body = [
        listing,
        f"<h2>Expectation suites</h2><ul>{''.join(suites)}</ul>",
    ]
    _write_page(store, store.data_docs / "index.html", f"Data Docs of {store.problem}", body, ())


def _fields(*pairs: tuple[str, str]) -> str:
    cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in pairs)
    return f'<table class="facts">{cells}</table>'


def _listing(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    heading = f"<h2>{title} ({len(lines)})</h2>" if title else ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"{heading}<ul>{items}</ul>"


def _write_page(
    store: Store, path: Path, title: str, head: Sequence[str], sections: Sequence[Section]
) -> None:
    home = "" if path.name == "index.html" else '<a href="../index.html">All validations</a>'
    links = "".join(
        f'<a href="#section-{number}">{escape(section.title)}</a>'
        for number, section in enumerate(sections, start=1)
    )
    contents = f"<nav>{links}</nav>" if links else ""
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<header>{home}<h1>{escape(title)}</h1></header><main>{''.join(head)}{contents}"
        f"{''.join(section.html for section in sections)}</main></body></html>\n"
    )
    before = path.read_bytes() if path.is_file() else b""
    write_signed(store, path, page.encode())
    # Who has just read the page before looks for its signature.
    remove_signatures(path, keep=(before, page.encode()))


# Colours by the page's colour scheme: that of the system or, inside Airflow, of its theme.
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882;
  --link: light-dark(#0b57d0, #8ab4f8);
  --good: light-dark(#146c3a, #7ddba0); --bad: light-dark(#a4161a, #ff9d9d);
  --warn: light-dark(#8a4b00, #f0b35e); }
body { background: light-dark(#ffffff, #171a20); color: light-dark(#1b2230, #e6e9ef);
  font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
code { overflow-wrap: anywhere; }
.table-responsive { overflow-x: auto; }
html { background: light-dark(#ffffff, #171a20); }
a { color: var(--link); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .5rem 0; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left;
  vertical-align: top; }
td ul { margin: 0; padding-left: 1.1rem; }
.facts { width: auto; } .facts th { font-weight: normal; opacity: .75; white-space: nowrap; }
nav { background: var(--soft); border-radius: .4rem; margin: 1.5rem 0; padding: .6rem;
  columns: 18rem; }
hr { display: none; }
nav a { display: block; }
.alert { background: var(--soft); border-radius: .4rem; margin-top: 1.5rem;
  padding: .5rem .8rem; }
.alert h5 { font-size: 1.05rem; margin: 0; }
.badge { background: var(--soft); border-radius: .3rem; padding: 0 .3rem; }
.passed, .text-success { color: var(--good); } .failed, .text-danger { color: var(--bad); }
.text-warning { color: var(--warn); }
.fas { font-style: normal; font-weight: bold; }
.fa-check-circle::before { content: "passed"; }
.fa-times::before { content: "failed"; }
.fa-exclamation-triangle::before { content: "not checked"; }
"""
