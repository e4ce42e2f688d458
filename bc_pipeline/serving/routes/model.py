"""The model that answers, and the versions there are."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from bc_pipeline.errors import HeaderRefused, NoChampion, NotThere
from bc_pipeline.evaluation.importance import FeatureImportance, Importance
from bc_pipeline.serving.accept import preferred
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.exchange import exchange_of, services_of
from bc_pipeline.serving.model.facts import ModelAnswer, ModelVerdict, described, model_facts
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.model.version_list import ListedVersion, VersionPage, version_page
from bc_pipeline.serving.pages.documentation import (
    JSON,
    MARKDOWN,
    MODEL_HEADERS,
    Example,
    content,
    operation,
    parameter,
)

router = APIRouter(route_class=ScopedRoute, tags=["model"])
MOST, USUAL = 100, 20
_CARD = "# Model card\n\n## Intended use\n"


def _example(live: Live) -> dict[str, Any]:
    """The live model, with made-up contents of the files beside its manifest."""
    leading = live.manifest.feature_schema.names[0]
    importance = Importance(
        rows=114, shuffles=20, seed=0, brier=0.02,
        features=(FeatureImportance(leading, 0.01, 0.002),),
    )  # fmt: skip
    verdict = ModelVerdict("first", True, False, 9, (), None, live.manifest.lineage.as_of)
    shown: dict[str, Any] = msgspec.to_builtins(described(live, importance, verdict, _CARD))
    return shown


def _page_example(live: Live) -> dict[str, Any]:
    as_of = live.manifest.lineage.as_of
    damaged = ListedVersion(
        version="20261101T000000Z-logistic-3f2a9c1b7d",
        aliases=(),
        promoted_at=None,
        error="signature-invalid",
    )
    sound = ListedVersion(
        version=live.version, aliases=("production",), promoted_at=as_of,
        manifest_sha256=live.manifest_sha256, candidate=live.manifest.recipe.candidate,
        title=live.manifest.recipe.title, as_of=as_of, live=True,
        threshold=live.manifest.threshold, metrics=live.manifest.metrics, kind="first",
        passed=True,
    )  # fmt: skip
    page = VersionPage(live.manifest.problem, 2, (sound, damaged), None)
    shown: dict[str, Any] = msgspec.to_builtins(page)
    return shown


@router.get(
    "/v1/model",
    **operation(
        "The model that answers now",
        scope="read",
        answer=ModelAnswer,
        description="The model.",
        example=_example,
        contents={
            MARKDOWN: content(
                {"type": "string"},
                card=Example("The model card alone", _CARD),
            )
        },
        headers=MODEL_HEADERS,
        refusals=(NoChampion, NotThere),
    ),
)
async def model(request: Request) -> Response:
    """Features with their units and ranges, threshold, metrics, importance, lineage and card.

    All of it comes from the version's signed files. 'Accept: text/markdown' gives the model
    card alone.
    """
    services = services_of(request)
    live = services.live
    exchange_of(request).model = live.version
    facts = await asyncio.to_thread(model_facts, services.settings, live)
    if preferred(request.headers.get("accept", ""), (JSON, MARKDOWN)) == JSON:
        response = json_answer(facts)
    elif facts.card is None:
        raise NotThere("This version has no model card.")
    else:
        response = Response(facts.card, media_type=MARKDOWN)
    response.headers["Vary"] = "Accept"
    response.raw_headers[:0] = live.headers
    return response


@router.get(
    "/v1/model/versions",
    **operation(
        "The versions that were published, the newest first",
        scope="read",
        answer=VersionPage,
        description="One page.",
        example=_page_example,
        parameters=(
            parameter(
                "limit",
                "query",
                "How many to list.",
                schema={"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL},
                example=10,
            ),
            parameter("cursor", "query", "The 'next_cursor' of the page before."),
        ),
    ),
)
async def versions(request: Request) -> Response:
    """Each with what its gate said, the aliases that name it, and when it was promoted.

    A version whose files are damaged is listed with the code of what is wrong.
    """
    given = request.query_params
    limit = _limit(given.get("limit", str(USUAL)))
    settings = services_of(request).settings
    page = await asyncio.to_thread(version_page, settings, limit, given.get("cursor"))
    return json_answer(page)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST):
        raise HeaderRefused(f"'limit' is a whole number from 1 to {MOST}.", header="limit")
    return int(text)
