"""Read outcome reports from a request: one JSON object, a JSON list of them, or CSV."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo, WithJsonSchema, field_validator

from bc_pipeline.errors import Defect, counted
from bc_pipeline.labels import Labels
from bc_pipeline.names import match_names
from bc_pipeline.prediction_log.entry import canonical_id
from bc_pipeline.prediction_log.outcomes import OutcomeReport, parse_observed_at
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.request_parsing.csv_lines import csv_lines
from bc_pipeline.serving.request_parsing.defects import mismatch_at, schema_mismatch
from bc_pipeline.serving.request_parsing.json_members import parse_json
from bc_pipeline.serving.request_parsing.strict_json import (
    WRONG_TYPE,
    InvalidField,
    unicode_text,
    validate_members,
    validate_object,
)

MAX_REPORTS = 10_000
_DEFECTS_LISTED = 100
_BOOLEANS = {"": False} | dict.fromkeys(("true", "1", "yes"), True)
_BOOLEANS |= dict.fromkeys(("false", "0", "no"), False)


class Outcome(ApiModel):
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

    prediction_id: Annotated[str, AfterValidator(unicode_text), AfterValidator(canonical_id)]
    # Validation replaces the diagnosis by whether it is positive, and the time by seconds.
    diagnosis: Annotated[bool, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})]
    observed_at: Annotated[
        float | None, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
    ] = None
    correction: bool = False

    @field_validator("diagnosis", mode="before")
    @classmethod
    def _parse_diagnosis(cls, value: Any, info: ValidationInfo) -> bool:
        labels = info.context
        assert isinstance(labels, Labels)
        if not isinstance(value, str | float):
            raise InvalidField(WRONG_TYPE)
        code = labels.code_of(value if isinstance(value, str) else f"{value:g}")
        if code is None:
            names = f"{labels.positive.name} or {labels.negative.name}"
            raise InvalidField(f"is no diagnosis: write {names}")
        return code == labels.positive.code

    @field_validator("observed_at", mode="before")
    @classmethod
    def _parse_time(cls, value: Any, info: ValidationInfo) -> float | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise InvalidField(WRONG_TYPE)
        seconds = parse_observed_at(value, info.data.get("prediction_id", ""))
        if isinstance(seconds, Defect):
            raise InvalidField(seconds.reason)
        return seconds


def read_json(body: bytes, labels: Labels, source: str) -> tuple[list[OutcomeReport], bool]:
    """Reports of a JSON body, and whether it was one object.

    Raises
    ------
    BodyUnreadable
    SchemaMismatch
        With the defects of all reports; none of them may be recorded then.
    """
    content = parse_json(body)
    is_single = not isinstance(content, list)
    items = [content] if is_single else content
    if len(items) > MAX_REPORTS:
        raise mismatch_at(None, f"holds {len(items)} outcomes; send {MAX_REPORTS} at a time")
    results = (
        (None if is_single else number, validate_object(item, Outcome, labels))
        for number, item in enumerate(items, start=1)
    )
    return _reports(results, source), is_single


def read_csv(body: bytes, labels: Labels, source: str) -> list[OutcomeReport]:
    """Reports of CSV with a header; the columns may be in any order.

    Raises
    ------
    BodyUnreadable
        Where it is not CSV in UTF-8.
    SchemaMismatch
    """
    # Header, reports, and one line more, which shows that there are too many.
    rows = csv_lines(body, MAX_REPORTS + 2)
    if len(rows) > MAX_REPORTS + 1:
        raise mismatch_at(None, f"holds too many lines; send {MAX_REPORTS} outcomes at a time")
    header = [name.strip().casefold() for name in rows[0]]
    _check_header(header)
    results = (
        (line, _validate_row(header, cells, labels))
        for line, cells in enumerate(rows[1:], start=2)
        if any(cells)
    )
    return _reports(results, source)


def _check_header(header: list[str]) -> None:
    """Refuse a header that lacks columns, repeats them, or has others.

    Raises
    ------
    SchemaMismatch
    """
    columns = Outcome.model_fields
    match = match_names(header, lambda name: name if name in columns else None)
    required = [name for name, field in columns.items() if field.is_required()]
    defects = [Defect("is missing", 1, name) for name in required if name not in match.positions]
    defects += [replace(defect, line=1) for defect in match.repeated.values()]
    if match.unknown:
        # Other names are not shown: where there is no header, they are values.
        defects.append(Defect(f"the header has other names than {', '.join(columns)}", 1))
    if defects:
        raise schema_mismatch(defects)


def _validate_row(
    header: list[str], cells: list[str], labels: Labels
) -> tuple[Outcome | None, list[Defect]]:
    if len(cells) != len(header):
        return None, [Defect(f"has {counted(len(cells), 'cell')}; the header has {len(header)}")]
    members: dict[str, Any] = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    members["observed_at"] = members.get("observed_at") or None
    # A word that is no boolean becomes None, which validation refuses.
    members["correction"] = _BOOLEANS.get(members.get("correction", "").casefold())
    return validate_members(members, Outcome, labels)


def _reports(
    results: Iterable[tuple[int | None, tuple[Outcome | None, list[Defect]]]], source: str
) -> list[OutcomeReport]:
    """Valid outcomes as reports, from the number of each and the result of its validation.

    Raises
    ------
    SchemaMismatch
        Where any has a defect, or there is none.
    """
    reports: list[OutcomeReport] = []
    defects: list[Defect] = []
    for line, (outcome, item_defects) in results:
        defects += [replace(defect, line=line) for defect in item_defects]
        if outcome is not None:
            reports.append(
                OutcomeReport(
                    prediction_id=outcome.prediction_id,
                    positive=outcome.diagnosis,
                    source=source,
                    observed_at=outcome.observed_at,
                    correction=outcome.correction,
                )
            )
    if not defects and not reports:
        raise mismatch_at(None, "holds no outcome")
    if defects:
        raise schema_mismatch(defects[:_DEFECTS_LISTED], len(defects))
    return reports
