"""The loaded model, and the published versions."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator, Field

from bc_pipeline.artifacts.importance import FeatureImportance, Importance
from bc_pipeline.errors import HeaderRefused, NoChampion, NotThere
from bc_pipeline.serving.content_negotiation import negotiate
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.model.model_info import (
    ModelAnswer,
    ModelVerdict,
    build_model_info,
    read_model_info,
)
from bc_pipeline.serving.model.version_list import ListedVersion, VersionPage, version_page
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import services_of

router = APIRouter(route_class=ScopedRoute, tags=["model"])
_MAX_LIMIT, _DEFAULT_LIMIT = 100, 20
_CARD = "# Model card\n\n## Intended use\n"


def _example(model: LoadedModel) -> dict[str, Any]:
    """The loaded model, with made-up contents of the files beside its manifest."""
    leading = model.schema.names[0]
    importance = Importance(
        rows=114, shuffles=20, seed=0, brier=0.02,
        features=(FeatureImportance(leading, 0.01, 0.002),),
    )  # fmt: skip
    verdict = ModelVerdict("first", True, False, 9, (), None, model.manifest.lineage.as_of)
    shown: dict[str, Any] = msgspec.to_builtins(build_model_info(model, importance, verdict, _CARD))
    return shown


def _page_example(model: LoadedModel) -> dict[str, Any]:
    as_of = model.manifest.lineage.as_of
    damaged = ListedVersion(
        version="20261101T000000Z-logistic-3f2a9c1b7d",
        aliases=(),
        promoted_at=None,
        error="signature-invalid",
    )
    sound = ListedVersion(
        version=model.version, aliases=("production",), promoted_at=as_of,
        manifest_sha256=model.manifest_sha256, candidate=model.manifest.recipe.candidate,
        title=model.manifest.recipe.title, as_of=as_of, live=True,
        threshold=model.manifest.threshold, metrics=model.manifest.metrics, kind="first",
        passed=True,
    )  # fmt: skip
    page = VersionPage(model.manifest.problem, 2, (sound, damaged), None)
    shown: dict[str, Any] = msgspec.to_builtins(page)
    return shown


@router.get(
    "/v1/model",
    **docs.operation(
        "The model that answers now",
        scope="read",
        answer=ModelAnswer,
        description="The model.",
        example=_example,
        contents={
            docs.MARKDOWN: docs.content(docs.TEXT, card=docs.Example("The model card alone", _CARD))
        },
        headers=docs.MODEL_HEADERS,
        errors=(NoChampion, NotThere),
    ),
)
def model(request: Request) -> Response:
    """Features with their units and ranges, threshold, metrics, importance, lineage and card.

    All of it comes from the version's signed files. 'Accept: text/markdown' gives the model
    card alone.
    """
    services = services_of(request)
    model = services.loaded_model
    context_of(request).model = model.version
    facts = read_model_info(services.settings, model)
    if negotiate(request, (docs.JSON, docs.MARKDOWN)) == docs.JSON:
        response = json_response(facts)
    elif facts.card is None:
        raise NotThere("This version has no model card.")
    else:
        response = Response(facts.card, media_type=docs.MARKDOWN)
    response.raw_headers[:0] = model.headers
    return response


def _require_digits(limit: object) -> object:
    """Refuse 5.0, +5 and 1_0, which pydantic would take for integers.

    Raises
    ------
    HeaderRefused
    """
    if not re.fullmatch("[0-9]{1,3}", str(limit)):
        raise HeaderRefused(f"'limit' is a whole number from 1 to {_MAX_LIMIT}.", header="limit")
    return limit


@router.get(
    "/v1/model/versions",
    **docs.operation(
        "The versions that were published, the newest first",
        scope="read",
        answer=VersionPage,
        description="One page.",
        example=_page_example,
        errors=(HeaderRefused,),
    ),
)
def versions(
    request: Request,
    limit: Annotated[
        int,
        Field(ge=1, le=_MAX_LIMIT),
        BeforeValidator(_require_digits),
        Query(description="How many to list.", openapi_examples={"ten": {"value": 10}}),
    ] = _DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="The 'next_cursor' of the page before.")
    ] = None,
) -> Response:
    """Each with what its gate said, the aliases that name it, and when it was promoted.

    A version whose files are damaged is listed with the code of what is wrong.
    """
    settings = services_of(request).settings
    return json_response(version_page(settings, limit, cursor))
