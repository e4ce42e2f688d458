"""Look up an answered prediction, with its outcome where one was reported."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Request, Response

from bc_pipeline.artifacts.signed_bundle import open_version
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_seconds, format_time, time_of_seconds
from bc_pipeline.errors import NoChampion, NotThere, RecordExpired, RecordsAway, StoreError
from bc_pipeline.labels import Labels
from bc_pipeline.prediction_log.predictions import StoredPrediction, find_prediction
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.pages import record_examples
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import services_of
from bc_pipeline.settings import Settings

router = APIRouter(route_class=ScopedRoute, tags=["outcomes"])


class KnownOutcome(ApiModel):
    """The diagnosis that is on record."""

    diagnosis: str
    observed_at: str | None
    recorded_at: str
    source: str
    corrections: int


class AnsweredPrediction(ApiModel):
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


def _example(model: LoadedModel) -> dict[str, object]:
    """An example of a look-up, with a known outcome."""
    prediction = record_examples.example_prediction(model)
    copied = ("prediction_id", "model_version", "manifest_sha256", "prediction", "label", "id")
    return {name: prediction[name] for name in copied} | {
        "answered_at": "2026-11-15T08:30:00Z",
        "probabilities": prediction["probabilities"],
        "latency_seconds": 0.0004,
        "caller": "hospital-a",
        "route": "predict",
        "features": record_examples.named_record(model),
        "outcome": {
            "diagnosis": prediction["label"],
            "observed_at": "2026-11-20T00:00:00Z",
            "recorded_at": "2026-11-21T08:30:00Z",
            "source": "hospital-a",
            "corrections": 0,
        },
    }


@router.get(
    "/v1/predictions/{prediction_id}",
    **docs.operation(
        "Look up an answered prediction",
        scope="read",
        answer=AnsweredPrediction,
        description="What was answered, by which version, and the outcome where it is known.",
        example=_example,
        errors=(NotThere, RecordExpired, RecordsAway, NoChampion),
    ),
)
def look_up(
    prediction_id: Annotated[str, Path(description="As an answer carried it.")], request: Request
) -> Response:
    """A prediction can be looked up from the moment it was answered."""
    services = services_of(request)
    stored = find_prediction(services.settings, prediction_id)
    labels = services.loaded_model.labels
    answer = AnsweredPrediction(
        prediction_id=stored.id,
        answered_at=format_seconds(stored.at),
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
        outcome=_known_outcome(stored, labels),
    )
    return json_response(answer)


def _features(
    settings: Settings, stored: StoredPrediction
) -> dict[str, float] | list[float] | None:
    if stored.values is None:
        return None
    values: list[float] = np.frombuffer(stored.values, "<f8").tolist()
    folder = Store.of(settings, settings.service_problem).version(stored.version)
    try:
        names = open_version(folder, settings.verify_key).manifest.feature_schema.names
    except StoreError:
        return values
    return dict(zip(names, values, strict=True))


def _known_outcome(stored: StoredPrediction, labels: Labels) -> KnownOutcome | None:
    outcome = stored.outcome
    if outcome is None:
        return None
    # Earlier releases stored reported times unchecked: one may be outside the calendar.
    observed = None if outcome.observed_at is None else time_of_seconds(outcome.observed_at)
    return KnownOutcome(
        diagnosis=labels.name(outcome.positive),
        observed_at=None if observed is None else format_time(observed),
        recorded_at=format_seconds(outcome.recorded_at),
        source=outcome.source,
        corrections=outcome.corrections,
    )
