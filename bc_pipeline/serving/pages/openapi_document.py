"""The OpenAPI document: the parts of all routes, filled in from the live model.

It is built here and not by FastAPI, which leaves every null out of an example and knows
nothing of msgspec's types.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI

from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.pages.documentation import PROBLEMS_SHOWN, STRUCTS
from bc_pipeline.serving.problem_details import problem_example, problem_type

_SECURITY_SCHEMES = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key made by 'bc-pipeline keys create'. Every operation names the scope "
        "that it needs as 'x-required-scope'.",
    },
    "Bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the configured issuer; its scopes are those of API keys.",
    },
}
_HEADERS = {
    "X-Request-Id": ("Names the request in the service's log.", "string"),
    "X-Model-Version": ("The version that answered.", "string"),
    "X-Manifest-Sha256": ("Digest of that version's signed manifest.", "string"),
    "Retry-After": ("Seconds until another try is worth it.", "integer"),
    "WWW-Authenticate": ("How to send credentials.", "string"),
    "Location": ("Where what was made can be looked at.", "string"),
}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details. Some problems carry members of their own.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Where the problem is explained.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Names the problem, for programs."},
        "defects": {
            "type": "array",
            "description": "Everything that is wrong with what was sent.",
            "items": {
                "type": "object",
                "required": ["feature", "reason"],
                "properties": {
                    "line": {"type": "integer", "description": "Of an uploaded file."},
                    "feature": {"type": ["string", "null"]},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}
_ID = {"type": "string", "minLength": 1, "maxLength": 128}


def openapi(app: FastAPI, live: Live | None) -> dict[str, Any]:
    """The OpenAPI document; without a live model it names no features."""
    paths: dict[str, dict[str, Any]] = {}
    for route in app.routes:
        if isinstance(route, ScopedRoute) and route.include_in_schema:
            methods = paths.setdefault(route.path_format, {})
            for method in sorted(route.methods - {"HEAD"}):
                methods[method.lower()] = _operation(route, method)
    _, structs = msgspec.json.schema_components(
        [STRUCTS[name] for name in sorted(STRUCTS)], ref_template="#/components/schemas/{name}"
    )
    schemas = {
        name: _explained(schema, STRUCTS.get(name)) for name, schema in sorted(structs.items())
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": app.title, "version": app.version, "description": app.description},
        "paths": paths,
        "components": {
            "schemas": schemas
            | {
                "Problem": _PROBLEM,
                "Record": {"type": "object"} if live is None else record_schema(live),
            },
            "examples": {
                code: {"summary": problem_type(kind).title, "value": problem_example(kind)}
                for code, kind in sorted(PROBLEMS_SHOWN.items())
            },
            "headers": {
                name: {"description": description, "schema": {"type": kind}}
                for name, (description, kind) in _HEADERS.items()
            },
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }
    filled: dict[str, Any] = _filled(document, live)
    return filled


def _operation(route: ScopedRoute, method: str) -> dict[str, Any]:
    words = route.path_format.replace("{", "").replace("}", "").replace(".", "/").split("/")
    made: dict[str, Any] = {
        "tags": list(route.tags),
        "summary": route.summary,
        "operationId": "_".join([method.lower(), *(word for word in words if word)]).replace(
            "-", "_"
        ),
    }
    paragraphs = [route.description] if route.description else []
    if route.required != "public":
        paragraphs.append(f"Needs the scope `{route.required}`.")
    if paragraphs:
        made["description"] = "\n\n".join(paragraphs)
    return made | dict(route.openapi_extra or {})


def _filled(part: Any, live: Live | None) -> Any:
    """A part of the document with its functions of the live model called.

    An example that cannot be made without a model is left out.
    """
    if isinstance(part, Mapping):
        return {
            key: _filled(value, live)
            for key, value in part.items()
            if not (live is None and isinstance(value, Mapping) and callable(value.get("value")))
        }
    if isinstance(part, list | tuple):
        return [_filled(item, live) for item in part]
    return part(live) if callable(part) and live is not None else part


def _explained(schema: dict[str, Any], struct: type | None) -> dict[str, Any]:
    """A type's schema with its docstring taken apart: the summary, and a line per attribute."""
    text = inspect.cleandoc(schema.get("description", ""))
    summary, _, listed = text.partition("Attributes\n----------\n")
    made = dict(schema)
    made.pop("description", None)
    if summary.strip():
        made["description"] = " ".join(summary.split())
    properties = {name: dict(given) for name, given in schema.get("properties", {}).items()}
    for names, lines in _attributes(listed).items():
        for name in names.split(", "):
            if name in properties and lines:
                properties[name].setdefault("description", " ".join(lines))
    if properties:
        made["properties"] = properties
    return made


def _attributes(listed: str) -> dict[str, list[str]]:
    """Lines below each ``name : type`` of a numpy docstring."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in listed.splitlines():
        if line and not line.startswith(" "):
            name = line.partition(" : ")[0]
            found[name] = []
        elif name and line.strip():
            found[name].append(line.strip())
    return found


def record_schema(live: Live) -> dict[str, Any]:
    """One record in its three forms, with the features of the live model."""
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
    named = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    listed = {
        "type": "array",
        "items": {"type": "number"},
        "minItems": len(properties),
        "maxItems": len(properties),
    }
    return {
        "description": "One record in any of three forms. Case, spaces, dots and underscores "
        "in names do not matter, and the other names of a feature are taken as well.",
        "oneOf": [
            {"title": "Named features"} | named | {"properties": properties | {"id": _ID}},
            _enclosed("Named features in an object of their own", named),
            _enclosed("Numbers in the order of the named features", listed),
        ],
    }


def _enclosed(title: str, features: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": {"features": features, "id": _ID},
        "required": ["features"],
        "additionalProperties": False,
    }
