"""Examples of records and predictions, made from the loaded model."""

from __future__ import annotations

from typing import Any

from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.pages.documentation import JSON, Example, content, request_body


def named_record(model: LoadedModel) -> dict[str, Any]:
    """The mean training row of the loaded model, by feature name."""
    return dict(zip(model.schema.names, model.example, strict=True))


def listed_record(model: LoadedModel) -> dict[str, Any]:
    """The mean training row as a list of numbers, with an id."""
    return {"id": "sample-1", "features": list(model.example)}


def example_prediction(model: LoadedModel) -> dict[str, Any]:
    """An example of a prediction; its probability is made up."""
    positive, negative = model.labels.positive, model.labels.negative
    return {
        "prediction_id": "01900000-0000-7000-8000-000000000000",
        "prediction": positive.code,
        "label": positive.name,
        "probability": 0.97,
        "probabilities": {positive.name: 0.97, negative.name: 0.03},
        "threshold": model.manifest.threshold,
        "model_version": model.version,
        "manifest_sha256": model.manifest_sha256,
        "warnings": [],
        "id": "sample-1",
    }


RECORD = {"$ref": "#/components/schemas/Record"}
RECORD_BODY = request_body(
    {
        JSON: content(
            RECORD,
            named=Example("Named features", named_record),
            numbers=Example("Numbers in the order of the features, with an id", listed_record),
            incomplete=Example("A record that lacks features", {"features": {}}, status=422),
        )
    }
)
