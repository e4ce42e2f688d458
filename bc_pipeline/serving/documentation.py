"""What the service says about itself: the OpenAPI document, filled in from the live model."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from bc_pipeline.serving.live import Live
from bc_pipeline.serving.problem_details import MEDIA_TYPE

TITLE = "bc-pipeline prediction service"
NOTICE = "Decision support for research; not a medical device."
PATHS = ("/", "/predict", "/health", "/docs", "/openapi.json")
DESCRIPTION = f"""\
Calls one record malignant or benign from its features, with the model that is in production. \
{NOTICE}

The model gives the probability of malignant. The call is malignant exactly where that \
probability is above the version's threshold. The threshold is chosen for sensitivity and may \
lie below one half, so the label that is called can have a probability below one half: \
'probability' belongs to the label, 'threshold' to malignant.

'prediction' is scikit-learn's code of the label: 0 is malignant, 1 is benign.

Errors are RFC 9457 problems. All defects of a record are listed together, and no error \
repeats a value of the request."""

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "defects": {
            "type": "array",
            "description": "Everything that is wrong with the record.",
            "items": {
                "type": "object",
                "required": ["feature", "reason"],
                "properties": {
                    "feature": {"type": ["string", "null"]},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "prediction",
        "label",
        "probability",
        "probabilities",
        "threshold",
        "model_version",
    ],
    "properties": {
        "prediction": {"type": "integer", "enum": [0, 1]},
        "label": {"type": "string"},
        "probability": _PROBABILITY | {"description": "Of the label that is called."},
        "probabilities": {
            "type": "object",
            "additionalProperties": _PROBABILITY,
            "description": "By label; they add up to one.",
        },
        "threshold": _PROBABILITY
        | {"description": "The call is the positive label where its probability is above it."},
        "model_version": {"type": "string"},
        "id": {"type": "string", "description": "The request's id, where it had one."},
    },
}
_ID_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 128}


def _problem(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


# Keyword arguments of the routes.
PREDICT: dict[str, Any] = {
    "summary": "Classify one record",
    "responses": {
        HTTPStatus.OK: {
            "description": "The call, its probability, and the version that made it.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
        },
        HTTPStatus.BAD_REQUEST: _problem("The body is not JSON."),
        HTTPStatus.UNAUTHORIZED: _problem("No API key, or a wrong one."),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _problem("The body is larger than 1 MiB."),
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: _problem("The body is not declared as JSON."),
        HTTPStatus.UNPROCESSABLE_ENTITY: _problem(
            "Features are missing, unknown, given twice, not numbers, outside their physical "
            "range, or contradict each other."
        ),
        HTTPStatus.INTERNAL_SERVER_ERROR: _problem("The service is at fault."),
        HTTPStatus.SERVICE_UNAVAILABLE: _problem("No verified model is live."),
    },
    "openapi_extra": {
        "security": [{"ApiKey": []}, {"Bearer": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Record"}}},
        },
    },
}
HEALTH: dict[str, Any] = {
    "summary": "Whether a verified model answers, and which",
    "responses": {
        HTTPStatus.OK: {
            "description": "A verified model answers. 'refused' counts champions that were "
            "not taken because their files, signature or answers were wrong.",
        },
        HTTPStatus.SERVICE_UNAVAILABLE: _problem("No verified model is live."),
    },
}
ROOT: dict[str, Any] = {
    "summary": "What this service is, and links",
    "responses": {HTTPStatus.OK: {"description": "Name, notice and addresses."}},
}


def openapi(app: FastAPI, live: Live | None) -> dict[str, Any]:
    """The OpenAPI document; without a live model it names no features."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    components["schemas"] = {
        "Problem": _PROBLEM_SCHEMA,
        "Answer": _ANSWER_SCHEMA,
        "Record": {"type": "object"} if live is None else _record_schema(live),
    }
    if live is not None:
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
        content["application/json"]["examples"] = _examples(live)
    return document


def _record_schema(live: Live) -> dict[str, Any]:
    features = live.manifest.feature_schema.features
    properties = {
        feature.name: {
            "type": "number",
            "minimum": feature.minimum,
            "maximum": feature.maximum,
            "description": f"Unit: {feature.unit}. Also: "
            f"{', '.join(dict.fromkeys(feature.aliases))}.",
        }
        for feature in features
    }
    names = list(properties)
    count = len(names)
    return {
        "description": "One record in any of three forms. Case, spaces, dots and underscores "
        "in names do not matter, and the other names of a feature are taken as well.",
        "oneOf": [
            {
                "title": "Named features",
                "type": "object",
                "properties": properties | {"id": _ID_SCHEMA},
                "required": names,
                "additionalProperties": False,
            },
            {
                "title": "Named features in an object of their own",
                "type": "object",
                "properties": {
                    "features": {
                        "type": "object",
                        "properties": properties,
                        "required": names,
                        "additionalProperties": False,
                    },
                    "id": _ID_SCHEMA,
                },
                "required": ["features"],
                "additionalProperties": False,
            },
            {
                "title": "Numbers in the order of the named features",
                "type": "object",
                "properties": {
                    "features": {
                        "type": "array",
                        "items": {"type": "number"},
                        "minItems": count,
                        "maxItems": count,
                    },
                    "id": _ID_SCHEMA,
                },
                "required": ["features"],
                "additionalProperties": False,
            },
        ],
    }


def _examples(live: Live) -> dict[str, Any]:
    """The same record in two forms: the centre of the rows that the model was trained on."""
    named = dict(zip(live.manifest.feature_schema.names, live.example, strict=True))
    return {
        "named": {"summary": "Named features", "value": named},
        "numbers": {
            "summary": "Numbers in the order of the features, with an id",
            "value": {"id": "sample-1", "features": list(live.example)},
        },
    }
