"""Report the true diagnoses of answered predictions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response

from bc_pipeline.errors import (
    MediaTypeRefused,
    NoChampion,
    NotThere,
    OutcomeConflict,
    PipelineError,
    RecordExpired,
    RecordsAway,
)
from bc_pipeline.labels import Labels
from bc_pipeline.prediction_log.outcomes import OutcomeReport, OutcomeResult, record_outcomes
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.request_parsing.body_stream import (
    REPORT_LIMIT,
    media_type,
    read_body,
    require_json,
)
from bc_pipeline.serving.request_parsing.multipart import FORM, JSON_OR_CSV, UPLOAD, stored_csv
from bc_pipeline.serving.request_parsing.outcome_reports import Outcome, read_csv, read_json
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import Services, services_of

router = APIRouter(route_class=ScopedRoute, tags=["outcomes"])
_ID = "01900000-0000-7000-8000-000000000000"


def _example_report(model: LoadedModel) -> dict[str, Any]:
    return {"prediction_id": _ID, "diagnosis": model.labels.positive.name}


def _example_answer(model: LoadedModel) -> dict[str, Any]:
    label = model.labels.positive.name
    known = {"result": "recorded", "held": label, "predicted": label, "days_after": 5.0}
    return _example_report(model) | known


def _example_csv(model: LoadedModel) -> str:
    return f"prediction_id,diagnosis,observed_at\n{_ID},{model.labels.positive.name},2026-11-20\n"


class OutcomesAnswer(ApiModel):
    """Results of several reports, in their order, and how many of each result."""

    results: list[OutcomeResult]
    counts: dict[str, int]


@router.post(
    "/v1/outcomes",
    **docs.operation(
        "Report true diagnoses",
        scope="outcomes",
        answer=OutcomeResult,
        status=HTTPStatus.CREATED,
        description="The diagnosis was recorded.",
        example=_example_answer,
        others={
            HTTPStatus.OK: docs.response(
                "One report: the same diagnosis was recorded before, or the correction was taken. "
                "Several: what became of each.",
                OutcomeResult | OutcomesAnswer,
            )
        },
        body=docs.request_body(
            {
                docs.JSON: docs.content(
                    {
                        "oneOf": [
                            docs.reference(Outcome),
                            {"type": "array", "items": docs.reference(Outcome)},
                        ]
                    },
                    reported=docs.Example(
                        "The diagnosis of a prediction; put the id of one of yours in",
                        _example_report,
                        status=201,
                    ),
                    unknown=docs.Example(
                        "A prediction that was never answered",
                        lambda model: _example_report(model) | {"observed_at": "2026-11-20"},
                        status=404,
                    ),
                ),
                docs.CSV: docs.content(
                    docs.TEXT,
                    several=docs.Example(
                        "Several, with a header",
                        _example_csv,
                        status=200,
                    ),
                ),
                FORM: docs.content(UPLOAD),
            }
        ),
        errors=(
            *docs.BODY_ERRORS,
            NotThere,
            OutcomeConflict,
            RecordExpired,
            RecordsAway,
            NoChampion,
        ),
    ),
)
async def report(request: Request) -> Response:
    """One object, a list of them, or CSV, also as the file of a form.

    A diagnosis may come at any time after the answer. The same one again changes nothing.
    Another one is a conflict, unless it says 'correction': the earlier one is then kept as
    history. With several reports each has its own result, and those that are sound are recorded.
    """
    services = services_of(request)
    labels = services.loaded_model.labels
    reports, is_single = await _read_reports(request, services, labels)
    results = await asyncio.to_thread(record_outcomes, services.settings, reports, labels)
    if not is_single:
        counts: dict[str, int] = dict(sorted(Counter(result.result for result in results).items()))
        return json_response(OutcomesAnswer(results=results, counts=counts))
    result = results[0]
    if result.result in _ERRORS:
        error, message, remedy = _ERRORS[result.result]
        raise error(message, remedy)
    is_new = result.result == "recorded"
    return json_response(result, HTTPStatus.CREATED if is_new else HTTPStatus.OK)


async def _read_reports(
    request: Request, services: Services, labels: Labels
) -> tuple[list[OutcomeReport], bool]:
    """The reports of a request, and whether it was one JSON object.

    Raises
    ------
    MediaTypeRefused, BodyTooLarge, BodyUnreadable, SchemaMismatch
    """
    caller = context_of(request).caller
    source = caller.name if caller else ""
    headers = request.headers.raw
    declared = media_type(headers)
    if declared in (docs.CSV, FORM):
        async with stored_csv(request, REPORT_LIMIT) as path, services.upload_slots:
            return await asyncio.to_thread(
                lambda: read_csv(path.read_bytes(), labels, source)
            ), False
    if declared != docs.JSON:
        raise MediaTypeRefused(JSON_OR_CSV)
    require_json(headers)
    body = await read_body(request, REPORT_LIMIT)
    async with services.upload_slots:
        return await asyncio.to_thread(read_json, body, labels, source)


# Results that are errors where one outcome was reported.
_ERRORS: Mapping[str, tuple[type[PipelineError], str, str]] = {
    "unknown": (NotThere, "There is no prediction with this id.", ""),
    "expired": (
        RecordExpired,
        "The prediction was removed: it is older than predictions are kept.",
        "",
    ),
    "conflict": (
        OutcomeConflict,
        "Another diagnosis is recorded for this prediction; it stays.",
        "Send 'correction': true to replace it.",
    ),
}
