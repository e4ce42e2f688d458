"""What was answered, and what turned out true."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec
import numpy as np
from fastapi import APIRouter, Request, Response

from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_version
from bc_pipeline.clock import format_time, moment_of
from bc_pipeline.errors import (
    BodyTooLarge,
    BodyUnreadable,
    MediaTypeRefused,
    NoChampion,
    NotThere,
    OutcomeConflict,
    PipelineError,
    RecordExpired,
    RecordsAway,
    SchemaMismatch,
    StoreError,
)
from bc_pipeline.records.outcomes import OutcomeResult, record_outcomes
from bc_pipeline.records.predictions import StoredPrediction, find_prediction
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.bodies.outcome_reports import Outcome, read_csv, read_json
from bc_pipeline.serving.bodies.reading import media_type, read_body, require_json
from bc_pipeline.serving.bodies.storing import FIELD, FORM, UPLOAD, stored_csv
from bc_pipeline.serving.exchange import exchange_of, headers_of, services_of
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.pages.documentation import (
    CSV,
    JSON,
    Example,
    Success,
    called_record,
    content,
    named_record,
    operation,
    parameter,
    request_body,
)
from bc_pipeline.serving.services import Services
from bc_pipeline.settings import Settings

router = APIRouter(route_class=ScopedRoute, tags=["outcomes"])
# Room for as many reports as are taken at once, with everything that one may say.
_LIMIT = 4 * 1024 * 1024
_TYPES = f"Send JSON as '{JSON}', CSV as '{CSV}', or CSV as the file '{FIELD}' of a '{FORM}'."


class KnownOutcome(msgspec.Struct):
    """The diagnosis that is on record."""

    diagnosis: str
    observed_at: str | None
    recorded_at: str
    source: str
    corrections: int


class AnsweredPrediction(msgspec.Struct):
    """A prediction as it was recorded when it was answered.

    Attributes
    ----------
    features : dict or list or None
        By name; a list where the version is no longer on the volume; None where they are
        encrypted with a key that the service does not have.
    id : str or None
        The client's own name for the record.
    """

    prediction_id: str
    answered_at: str
    model_version: str
    manifest_sha256: str
    prediction: int
    label: str
    probabilities: dict[str, float]
    latency_seconds: float
    caller: str
    route: str
    features: dict[str, float] | list[float] | None
    id: str | None
    outcome: KnownOutcome | None


class OutcomesAnswer(msgspec.Struct):
    """What became of several reports, in their order, and how many of each result."""

    results: list[OutcomeResult]
    counts: dict[str, int]


def _found(live: Live) -> dict[str, object]:
    """What a look-up of the document's example looks like, its outcome known."""
    called = called_record(live)
    outcome = {
        "diagnosis": called["label"],
        "observed_at": "2026-11-20T00:00:00Z",
        "recorded_at": "2026-11-21T08:30:00Z",
        "source": "hospital-a",
        "corrections": 0,
    }
    answered = ("prediction_id", "model_version", "manifest_sha256", "prediction", "label")
    return {name: called[name] for name in answered} | {
        "answered_at": "2026-11-15T08:30:00Z",
        "probabilities": called["probabilities"],
        "latency_seconds": 0.0004,
        "caller": "hospital-a",
        "route": "predict",
        "features": named_record(live),
        "id": called["id"],
        "outcome": outcome,
    }


@router.get(
    "/v1/predictions/{prediction_id}",
    **operation(
        "Look up an answered prediction",
        scope="read",
        answer=AnsweredPrediction,
        description="What was answered, by which version, and the outcome where it is known.",
        example=_found,
        parameters=[parameter("prediction_id", "path", "As an answer carried it.")],
        refusals=(NotThere, RecordExpired, RecordsAway, NoChampion),
    ),
)
async def look_up(prediction_id: str, request: Request) -> Response:
    """A prediction can be looked up from the moment it was answered."""
    return json_answer(await asyncio.to_thread(_answered, services_of(request), prediction_id))


def _answered(services: Services, prediction_id: str) -> AnsweredPrediction:
    stored = find_prediction(services.settings, prediction_id)
    labels = services.live.labels
    outcome = stored.outcome
    return AnsweredPrediction(
        prediction_id=stored.id,
        answered_at=_time(stored.at),
        model_version=stored.version,
        manifest_sha256=stored.manifest_sha256,
        prediction=labels.code(stored.positive),
        label=labels.name(stored.positive),
        probabilities={
            labels.positive.name: stored.probability,
            labels.negative.name: 1.0 - stored.probability,
        },
        latency_seconds=stored.latency,
        caller=stored.caller,
        route=stored.route,
        features=_features(services.settings, stored),
        id=stored.sample_id,
        outcome=None
        if outcome is None
        else KnownOutcome(
            labels.name(outcome.positive),
            _told(outcome.observed_at),
            _time(outcome.recorded_at),
            outcome.source,
            outcome.corrections,
        ),
    )


def _features(
    settings: Settings, stored: StoredPrediction
) -> dict[str, float] | list[float] | None:
    if stored.values is None:
        return None
    values: list[float] = np.frombuffer(stored.values, "<f8").tolist()
    folder = Store(settings.home, settings.service_problem).version(stored.version)
    try:
        names = open_version(folder, settings.verify_key).manifest.feature_schema.names
    except StoreError:
        return values
    return dict(zip(names, values, strict=True))


def _told(seconds: float | None) -> str | None:
    """A time that a caller told; None where it is in no calendar, as nobody checked it once."""
    moment = None if seconds is None else moment_of(seconds)
    return None if moment is None else format_time(moment)


def _time(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))


_REPORT = operation(
    "Report true diagnoses",
    scope="outcomes",
    answer=OutcomeResult,
    status=HTTPStatus.CREATED,
    description="The diagnosis was recorded.",
    example={
        "prediction_id": "01900000-0000-7000-8000-000000000000",
        "result": "recorded",
        "diagnosis": "malignant",
        "held": "malignant",
        "predicted": "malignant",
        "days_after": 5.0,
    },
    others={
        HTTPStatus.OK: Success(
            "One report: the same diagnosis was recorded before, or the correction was taken. "
            "Several: what became of each.",
            {
                "oneOf": [
                    {"$ref": "#/components/schemas/OutcomeResult"},
                    {"$ref": "#/components/schemas/OutcomesAnswer"},
                ]
            },
        )
    },
    body=request_body(
        {
            JSON: content(
                {
                    "oneOf": [
                        {"$ref": "#/components/schemas/Outcome"},
                        {"type": "array", "items": {"$ref": "#/components/schemas/Outcome"}},
                    ]
                },
                reported=Example(
                    "The diagnosis of a prediction; put the id of one of yours in",
                    {
                        "prediction_id": "01900000-0000-7000-8000-000000000000",
                        "diagnosis": "malignant",
                    },
                    status=201,
                ),
                unknown=Example(
                    "A prediction that was never answered",
                    {
                        "prediction_id": "01900000-0000-7000-8000-000000000000",
                        "diagnosis": "malignant",
                        "observed_at": "2026-11-20",
                    },
                    status=404,
                ),
            ),
            CSV: content(
                {"type": "string"},
                several=Example(
                    "Several, with a header",
                    "prediction_id,diagnosis,observed_at\n"
                    "01900000-0000-7000-8000-000000000000,M,2026-11-20\n",
                    status=200,
                ),
            ),
            FORM: content(UPLOAD),
        }
    ),
    refusals=(
        BodyUnreadable,
        BodyTooLarge,
        MediaTypeRefused,
        SchemaMismatch,
        NotThere,
        OutcomeConflict,
        RecordExpired,
        RecordsAway,
        NoChampion,
    ),
)


@router.post("/v1/outcomes", **_REPORT)
async def report(request: Request) -> Response:
    """One object, a list of them, or CSV, also as the file of a form.

    A diagnosis may come at any time after the answer. The same one again changes nothing.
    Another one is a conflict, unless it says 'correction': the earlier one is then kept as
    history. With several reports each has its own result, and those that are sound are recorded.
    """
    services, exchange = services_of(request), exchange_of(request)
    headers = headers_of(request.scope)
    labels = services.live.labels
    source = exchange.caller.name if exchange.caller else ""
    single = False
    declared = media_type(headers)
    if declared in (CSV, FORM):
        async with stored_csv(request, _LIMIT) as path, services.reading:
            reports = await asyncio.to_thread(lambda: read_csv(path.read_bytes(), labels, source))
    else:
        if declared != JSON:
            raise MediaTypeRefused(_TYPES)
        require_json(headers)
        body = await read_body(request.receive, headers, _LIMIT)
        async with services.reading:
            reports, single = await asyncio.to_thread(read_json, body, labels, source)
    results = await asyncio.to_thread(record_outcomes, services.settings, reports, labels)
    if not single:
        counts: dict[str, int] = dict(sorted(Counter(result.result for result in results).items()))
        return json_answer(OutcomesAnswer(results, counts))
    result = results[0]
    if result.result in _REFUSED:
        kind, message, remedy = _REFUSED[result.result]
        raise kind(message, remedy)
    created = result.result == "recorded"
    return json_answer(result, HTTPStatus.CREATED if created else HTTPStatus.OK)


_REFUSED: Mapping[str, tuple[type[PipelineError], str, str]] = {
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
# The document refers to these by name.
for _kind in (Outcome, OutcomesAnswer):
    content(_kind)
