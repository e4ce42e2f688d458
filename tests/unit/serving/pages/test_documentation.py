from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fastapi import APIRouter, FastAPI, Response

from bc_pipeline.errors import NoChampion, NotThere
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.pages import documentation
from bc_pipeline.serving.pages.documentation import (
    CSV,
    JSON,
    NDJSON,
    Example,
    Success,
    content,
    operation,
    parameter,
    request_body,
)
from bc_pipeline.serving.pages.openapi_document import openapi
from bc_pipeline.serving.routes import about
from tests.unit.serving.conftest import Service


class Parcel(msgspec.Struct):
    """What is sent,
    in two lines.

    Attributes
    ----------
    weight : float
        In kilograms,
        packed.
    width, height : float
        In metres.
    """

    weight: float
    width: float
    height: float


@pytest.fixture(autouse=True)
def types(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What these tests declare stays theirs."""
    monkeypatch.setattr(documentation, "STRUCTS", {})
    monkeypatch.setattr("bc_pipeline.serving.pages.openapi_document.STRUCTS", documentation.STRUCTS)
    return


def described(path: str = "/parcels", live: Any = None, **keywords: Any) -> dict[str, Any]:
    router = APIRouter(route_class=ScopedRoute)

    async def take() -> Response:
        """How it is taken."""
        return Response()

    router.post(path, **operation("Take a parcel", **keywords))(take)
    app = FastAPI()
    app.include_router(router)
    return openapi(app, live)


def posted(**keywords: Any) -> dict[str, Any]:
    found: dict[str, Any] = described(**keywords)["paths"]["/parcels"]["post"]
    return found


def test_an_operation_has_its_endpoints_docstring_and_its_scope() -> None:
    operation = posted(scope="upload")
    assert operation["description"] == "How it is taken.\n\nNeeds the scope `upload`."
    assert operation["security"] == [{"ApiKey": ["upload"]}, {"Bearer": ["upload"]}]
    assert operation["operationId"] == "post_parcels"
    public = posted(scope="public")
    assert public["description"] == "How it is taken."
    assert "security" not in public


def test_several_successes_and_media_types_stand_side_by_side() -> None:
    responses = posted(
        scope="upload",
        answer=Parcel,
        status=202,
        headers=("Location",),
        contents={NDJSON: content(Parcel)},
        others={200: Success("It was there.", Parcel)},
    )["responses"]
    reference = {"$ref": "#/components/schemas/Parcel"}
    assert responses["202"]["content"] == {
        JSON: {"schema": reference},
        NDJSON: {"schema": reference},
    }
    assert list(responses["202"]["headers"]) == ["X-Request-Id", "Location"]
    assert responses["200"]["description"] == "It was there."


def test_a_body_has_a_schema_and_examples_for_each_media_type() -> None:
    body = request_body(
        {
            JSON: content(Parcel, light=Example("A light one", {"weight": None}, status=422)),
            CSV: content({"type": "string"}, two=Example("Two", "weight\n1\n2\n")),
        },
        "A parcel.",
    )
    given = posted(scope="upload", body=body)["requestBody"]
    assert (given["required"], given["description"]) == (True, "A parcel.")
    # A null of an example is part of it.
    assert given["content"][JSON]["examples"]["light"] == {
        "summary": "A light one",
        "value": {"weight": None},
        "x-status": 422,
    }
    assert given["content"][CSV]["schema"] == {"type": "string"}


def test_parameters_say_where_they_stand() -> None:
    given = posted(
        scope="upload",
        parameters=(
            parameter("name", "path", "Its name.", example="a"),
            parameter("limit", "query", "How many.", schema={"type": "integer"}),
            parameter("Idempotency-Key", "header", "A key.", required=True),
        ),
    )
    assert [(one["name"], one["in"], one["required"]) for one in given["parameters"]] == [
        ("name", "path", True),
        ("limit", "query", False),
        ("Idempotency-Key", "header", True),
    ]
    # What is not in the path can be malformed.
    assert "header-refused" in given["responses"]["400"]["content"][
        "application/problem+json"
    ]["examples"]  # fmt: skip


def test_problems_of_one_status_are_told_apart() -> None:
    document = described(scope="read", refusals=(NotThere, NoChampion))
    responses = document["paths"]["/parcels"]["post"]["responses"]
    assert set(responses) == {"200", "401", "403", "404", "429", "500", "503"}
    forbidden = responses["403"]["content"]["application/problem+json"]["examples"]
    assert set(forbidden) == {"scope-missing", "address-refused"}
    assert "Retry-After" in responses["503"]["headers"]
    assert "WWW-Authenticate" in responses["401"]["headers"]
    shown = document["components"]["examples"]["not-there"]["value"]
    assert (shown["status"], shown["type"]) == (404, "/problems#not-there")
    assert set(described(scope="public")["paths"]["/parcels"]["post"]["responses"]) == {
        "200", "403", "429", "500",
    }  # fmt: skip


def test_a_docstring_describes_a_type_and_each_of_its_fields() -> None:
    schema = described(scope="read", answer=Parcel)["components"]["schemas"]["Parcel"]
    assert schema["description"] == "What is sent, in two lines."
    texts = {name: field["description"] for name, field in schema["properties"].items()}
    assert texts == {
        "weight": "In kilograms, packed.",
        "width": "In metres.",
        "height": "In metres.",
    }


def test_two_types_of_one_name_are_a_mistake() -> None:
    other = msgspec.defstruct("Parcel", [("colour", str)])
    operation("Take", scope="read", answer=Parcel)
    operation("Take again", scope="read", answer=Parcel)
    with pytest.raises(TypeError, match="Parcel"):
        operation("Take another", scope="read", answer=other)


def test_an_example_of_the_live_model_needs_one(service: Service) -> None:
    body = request_body(
        {
            JSON: content(
                Parcel,
                live=Example("Of the model", lambda live: live.version),
                always=Example("Of nothing", "x"),
            )
        }
    )
    for live, expected in ((None, {"always"}), (service.model.current, {"live", "always"})):
        document = described(scope="upload", body=body, live=live)
        examples = document["paths"]["/parcels"]["post"]["requestBody"]["content"][JSON]["examples"]
        assert set(examples) == expected
    assert examples["live"]["value"] == "v1"


def test_a_record_has_the_features_of_the_live_model(service: Service, wdbc: Any) -> None:
    document = service.get("/openapi.json").json()
    forms = document["components"]["schemas"]["Record"]["oneOf"]
    named, enclosed, listed = forms
    assert set(named["properties"]) == {*wdbc.schema.names, "id"}
    assert enclosed["properties"]["features"]["required"] == list(wdbc.schema.names)
    assert listed["properties"]["features"]["minItems"] == len(wdbc.schema.names)
    first = wdbc.schema.features[0]
    assert named["properties"][first.name]["maximum"] == first.maximum


def test_a_hidden_route_is_not_in_the_document(service: Service) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    assert "/v1/predict" in paths
    assert not {"/predict", "/docs", "/docs/assets/{name}", "/openapi.json"} & set(paths)


def test_the_document_is_made_once_per_model(
    service: Service, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(app: FastAPI, live: Any) -> dict[str, Any]:
        made.append(live)
        return openapi(app, live)

    monkeypatch.setattr(about, "openapi_document", counted)
    first = service.get("/openapi.json").json()
    assert service.get("/openapi.json").json() == first
    releases.publish("v2", fitted[1], threshold=0.7)
    releases.promote("v2")
    service.model.refresh()
    second = service.get("/openapi.json").json()
    assert second != first
    assert [live.version for live in made] == ["v1", "v2"]
