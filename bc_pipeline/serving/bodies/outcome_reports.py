"""From a request's body to outcome reports: one object, a list of them, or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec

from bc_pipeline.errors import BodyUnreadable, Defect
from bc_pipeline.records.moments import read_moment
from bc_pipeline.records.outcomes import OutcomeReport
from bc_pipeline.schema import Labels
from bc_pipeline.serving.bodies.body import parse_json
from bc_pipeline.serving.bodies.plain_json import members, refusal

REPORTS_AT_ONCE = 10_000
_SHOWN = 100
_COLUMNS = ("prediction_id", "diagnosis", "observed_at", "correction")
_TRUTH = {"true": True, "1": True, "yes": True, "": False, "false": False, "0": False, "no": False}


class Outcome(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The true diagnosis of one answered prediction.

    Attributes
    ----------
    diagnosis : str or number
        A label's name, another spelling of it, or its code.
    observed_at : str or None
        ISO 8601: when the diagnosis was made.
    correction : bool
        Whether it replaces another diagnosis that was reported earlier.
    """

    prediction_id: str
    diagnosis: str | float
    observed_at: str | None = None
    correction: bool = False


def read_json(body: bytes, labels: Labels, source: str) -> tuple[list[OutcomeReport], bool]:
    """Reports of a JSON body, and whether it was one object.

    Raises
    ------
    BodyUnreadable
    SchemaMismatch
        Naming every report that is not as needed; none is taken then.
    """
    content = parse_json(body)
    # A list of JSON is a list; an object is a tuple of its members.
    if not isinstance(content, list):
        return _reports([content], labels, source, numbered=False), True
    return _reports(content, labels, source, numbered=True), False


def read_csv(body: bytes, labels: Labels, source: str) -> list[OutcomeReport]:
    """Reports of CSV with a header; columns may stand in any order.

    Raises
    ------
    BodyUnreadable
        Where it is not CSV in UTF-8.
    SchemaMismatch
    """
    try:
        text = body.decode("utf-8-sig")
        rows = _few(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        raise BodyUnreadable("The body is not UTF-8.") from None
    except csv.Error:
        raise BodyUnreadable(
            "The body is not CSV: a quote is not closed, or stands astray."
        ) from None
    if not rows:
        raise BodyUnreadable("The body is empty.")
    header = [name.strip().casefold() for name in rows[0]]
    strange = [name for name in header if name not in _COLUMNS]
    # Of other names nothing is told: without a header they are somebody's values.
    twice = [name for name in _COLUMNS if header.count(name) > 1]
    missing = [name for name in _COLUMNS[:2] if name not in header]
    if strange or twice or missing:
        known = ", ".join(_COLUMNS)
        raise refusal(
            [
                *[Defect("is missing", 1, name) for name in missing],
                *[Defect("stands twice in the header", 1, name) for name in twice],
                *([Defect(f"the header has other names than {known}", 1)] if strange else []),
            ]
        )
    return _of_rows(header, rows[1:], labels, source)


def _few(lines: Iterator[list[str]]) -> list[list[str]]:
    """Header and rows, of which no more are kept than are taken: an empty line counts too.

    Raises
    ------
    SchemaMismatch
    """
    rows = list(islice(lines, REPORTS_AT_ONCE + 2))
    if len(rows) > REPORTS_AT_ONCE + 1:
        raise refusal([Defect(f"holds too many lines; send {REPORTS_AT_ONCE} outcomes at a time")])
    return rows


def _of_rows(
    header: Sequence[str], rows: Sequence[Sequence[str]], labels: Labels, source: str
) -> list[OutcomeReport]:
    reports, defects = [], []
    for line, cells in enumerate(rows, start=2):
        if not any(cells):
            continue
        if len(cells) != len(header):
            defects.append(Defect(f"has {len(cells)} cells; the header has {len(header)}", line))
            continue
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        correction = _TRUTH.get(row.get("correction", "").casefold())
        code = labels.code_of(row["diagnosis"])
        if code is None:
            defects.append(_no_label(labels, line))
        if correction is None:
            defects.append(Defect("is neither true nor false", line, "correction"))
        moment = _moment(row.get("observed_at") or None, row["prediction_id"])
        if isinstance(moment, Defect):
            defects.append(replace(moment, line=line))
        elif code is not None and correction is not None:
            reports.append(
                OutcomeReport(
                    row["prediction_id"], code == labels.positive.code, source, moment, correction
                )
            )
    return _sound(reports, defects)


def _reports(
    content: Sequence[Any], labels: Labels, source: str, *, numbered: bool
) -> list[OutcomeReport]:
    reports, defects = [], []
    _require_few(len(content))
    for number, item in enumerate(content, start=1):
        row = number if numbered else None
        given, found = members(item, Outcome)
        # What can be read is judged even where something else cannot: all defects at once.
        code = _code(given["diagnosis"], labels) if "diagnosis" in given else None
        if code is None and "diagnosis" in given:
            found.append(_no_label(labels))
        moment = _moment(given.get("observed_at"), given.get("prediction_id", ""))
        if isinstance(moment, Defect):
            found.append(moment)
        elif not found:
            reports.append(
                OutcomeReport(
                    given["prediction_id"],
                    code == labels.positive.code,
                    source,
                    moment,
                    given.get("correction", False),
                )
            )
        defects += [replace(defect, line=row) for defect in found]
    return _sound(reports, defects)


def _sound(reports: list[OutcomeReport], defects: list[Defect]) -> list[OutcomeReport]:
    if not defects and not reports:
        defects = [Defect("holds no outcome")]
    if defects:
        more = len(defects) - _SHOWN
        raise refusal(defects[:_SHOWN] + ([Defect(f"{more} more defects")] if more > 0 else []))
    return reports


def _require_few(count: int) -> None:
    if count > REPORTS_AT_ONCE:
        raise refusal([Defect(f"holds {count} outcomes; send {REPORTS_AT_ONCE} at a time")])


def _code(diagnosis: str | float, labels: Labels) -> int | None:
    """Outside code of a diagnosis: a label's spelling, which its code is one of."""
    return labels.code_of(diagnosis if isinstance(diagnosis, str) else f"{diagnosis:g}")


def _moment(told: str | None, prediction_id: str) -> float | Defect | None:
    return None if told is None else read_moment(told, prediction_id)


def _no_label(labels: Labels, row: int | None = None) -> Defect:
    names = f"{labels.positive.name} or {labels.negative.name}"
    return Defect(f"is no diagnosis: write {names}", row, "diagnosis")
