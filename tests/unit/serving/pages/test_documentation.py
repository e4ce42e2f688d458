from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fastapi import APIRouter, FastAPI, Response

from bc_pipeline.errors import NoChampion, NotThere
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.pages import documentation
from bc_pipeline.serving.pages.documentation import (
    CSV,
    JSON,
    NDJSON,
    TEXT,
    Example,
    content,
    operation,
    request_body,
    response,
)
from bc_pipeline.serving.pages.openapi_document import openapi
from bc_pipeline.serving.routes import about
from bc_pipeline.serving.scoped_route import ScopedRoute
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


class Receipt(ApiModel):
    """What is answered.

    Attributes
    ----------
    number : int
        Of the parcel.
    """

    number: int
    signature: str | None


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types that these tests reference do not appear in the service's document."""
    monkeypatch.setattr(documentation, "MODELS", {})
    monkeypatch.setattr("bc_pipeline.serving.pages.openapi_document.MODELS", documentation.MODELS)


def document_of(model: Any = None, **keywords: Any) -> dict[str, Any]:
    router = APIRouter(route_class=ScopedRoute)

    async def take() -> Response:
        """How it is taken."""
        return Response()

    router.post("/parcels", **operation("Take a parcel", **keywords))(take)
    app = FastAPI()
    app.include_router(router)
    return openapi(app, model)


def posted(**keywords: Any) -> dict[str, Any]:
    documented: dict[str, Any] = document_of(**keywords)["paths"]["/parcels"]["post"]
    return documented


def test_an_operation_has_the_docstring_and_the_scope_of_its_endpoint() -> None:
    operation = posted(scope="upload")
    assert operation["description"] == "How it is taken.\n\nNeeds the scope `upload`."
    assert operation["security"] == [{"ApiKey": ["upload"]}, {"Bearer": ["upload"]}]
    assert operation["operationId"] == "post_parcels"
    public = posted(scope="public")
    assert public["description"] == "How it is taken."
    assert "security" not in public


def test_an_operation_may_have_several_successes_and_media_types() -> None:
    responses = posted(
        scope="upload",
        answer=Parcel,
        status=202,
        headers=("Location",),
        contents={NDJSON: content(Parcel)},
        others={200: response("It was there.", Parcel)},
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
            CSV: content(TEXT, two=Example("Two", "weight\n1\n2\n")),
        },
        "A parcel.",
    )
    documented = posted(scope="upload", body=body)["requestBody"]
    assert (documented["required"], documented["description"]) == (True, "A parcel.")
    # FastAPI would remove the null.
    assert documented["content"][JSON]["examples"]["light"] == {
        "summary": "A light one",
        "value": {"weight": None},
        "x-status": 422,
    }
    assert documented["content"][CSV]["schema"] == {"type": "string"}


def test_parameters_have_their_location() -> None:
    documented = posted(
        scope="upload",
        parameters=(
            {"name": "limit", "in": "query", "required": False, "schema": {"type": "integer"}},
            {"name": "Idempotency-Key", "in": "header", "required": True, "schema": TEXT},
        ),
    )
    assert [(one["name"], one["in"], one["required"]) for one in documented["parameters"]] == [
        ("limit", "query", False),
        ("Idempotency-Key", "header", True),
    ]


def test_errors_of_one_status_are_documented_by_their_codes() -> None:
    document = document_of(scope="read", errors=(NotThere, NoChampion))
    responses = document["paths"]["/parcels"]["post"]["responses"]
    assert set(responses) == {"200", "401", "403", "404", "429", "500", "503"}
    forbidden = responses["403"]["content"]["application/problem+json"]["examples"]
    assert set(forbidden) == {"scope-missing", "address-refused"}
    assert "Retry-After" in responses["503"]["headers"]
    assert "WWW-Authenticate" in responses["401"]["headers"]
    shown = document["components"]["examples"]["not-there"]["value"]
    assert (shown["status"], shown["type"]) == (404, "/problems#not-there")
    assert set(document_of(scope="public")["paths"]["/parcels"]["post"]["responses"]) == {
        "200", "403", "429", "500",
    }  # fmt: skip


def test_a_docstring_documents_a_type_and_its_fields() -> None:
    schema = document_of(scope="read", answer=Parcel)["components"]["schemas"]["Parcel"]
    assert schema["description"] == "What is sent, in two lines."
    texts = {name: field["description"] for name, field in schema["properties"].items()}
    assert texts == {
        "weight": "In kilograms, packed.",
        "width": "In metres.",
        "height": "In metres.",
    }


def test_a_pydantic_model_is_documented_as_an_answer_and_as_a_body() -> None:
    body = request_body({JSON: content(Receipt)})
    document = document_of(scope="upload", answer=Receipt, body=body)
    operation = document["paths"]["/parcels"]["post"]
    reference = {"$ref": "#/components/schemas/Receipt"}
    assert operation["responses"]["200"]["content"][JSON]["schema"] == reference
    assert operation["requestBody"]["content"][JSON]["schema"] == reference
    schema = document["components"]["schemas"]["Receipt"]
    assert (schema["description"], schema["additionalProperties"]) == ("What is answered.", False)
    assert schema["properties"]["number"]["description"] == "Of the parcel."
    assert schema["required"] == ["number", "signature"]


def test_fastapis_own_validation_response_is_not_documented() -> None:
    router = APIRouter(route_class=ScopedRoute)

    async def take(limit: int) -> Response:
        return Response()

    router.get("/parcels", **operation("Take", scope="public"))(take)
    app = FastAPI()
    app.include_router(router)
    document = openapi(app, None)
    assert "422" not in document["paths"]["/parcels"]["get"]["responses"]
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])


def test_two_types_of_one_name_are_refused() -> None:
    other = msgspec.defstruct("Parcel", [("colour", str)])
    operation("Take", scope="read", answer=Parcel)
    operation("Take again", scope="read", answer=Parcel)
    with pytest.raises(TypeError, match="Parcel"):
        operation("Take another", scope="read", answer=other)


def test_an_example_of_the_loaded_model_is_omitted_without_one(service: Service) -> None:
    body = request_body(
        {
            JSON: content(
                Parcel,
                dependent=Example("Of the model", lambda model: model.version),
                constant=Example("Of nothing", "x"),
            )
        }
    )
    loaded = service.model.current
    for model, expected in ((None, {"constant"}), (loaded, {"constant", "dependent"})):
        document = document_of(model, scope="upload", body=body)
        examples = document["paths"]["/parcels"]["post"]["requestBody"]["content"][JSON]["examples"]
        assert set(examples) == expected
    assert examples["dependent"]["value"] == "v1"


def test_a_record_has_the_features_of_the_loaded_model(service: Service, wdbc: Any) -> None:
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


def test_the_document_is_generated_once_per_model(
    service: Service, releases: Any, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []

    def counted(app: FastAPI, model: Any, root_path: str) -> dict[str, Any]:
        models.append(model)
        return openapi(app, model, root_path)

    monkeypatch.setattr(about, "openapi_document", counted)
    first = service.get("/openapi.json").json()
    assert service.get("/openapi.json").json() == first
    releases.publish("v2", fitted[1], threshold=0.7)
    releases.promote("v2")
    service.model.refresh()
    second = service.get("/openapi.json").json()
    assert second != first
    assert [model.version for model in models] == ["v1", "v2"]
