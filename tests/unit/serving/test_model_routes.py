from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.files import write_document
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import CARD, IMPORTANCE
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.promotion import audit
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.model.loaded_model import load_folder
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY, RANKING, Service

AUTHORISED = {"X-API-Key": KEY}


def get(service: Service, path: str, **headers: str) -> Any:
    return service.request("GET", path, headers=AUTHORISED | headers)


def test_the_model_is_described_from_its_manifest(
    service: Service, wdbc: Any, releases: Any
) -> None:
    answer = get(service, "/v1/model")
    facts = answer.json()
    assert answer.headers["x-model-version"] == facts["version"] == "v1"
    assert answer.headers["x-manifest-sha256"] == facts["manifest_sha256"]
    assert (facts["problem"], facts["generation"], facts["source"]) == ("wdbc", 1, "registry")
    assert facts["threshold"]["value"] == 0.4
    assert "malignant" in facts["threshold"]["meaning"]
    assert [(label["name"], label["code"], label["positive"]) for label in facts["labels"]] == [
        ("malignant", 0, True),
        ("benign", 1, False),
    ]
    assert "not a medical device" in facts["notice"]
    assert facts["lineage"]["dataset"] == "d"
    first, shown = wdbc.schema.features[0], facts["features"][0]
    assert shown["name"] == first.name
    assert shown["unit"] == first.unit
    assert shown["physical_range"] == {"minimum": first.minimum, "maximum": first.maximum}
    low, high = releases.draft("v1").training_range[first.name]
    assert shown["training_range"] == {"minimum": low, "maximum": high}
    assert set(shown["other_names"]) == set(first.aliases)
    assert [feature["name"] for feature in facts["features"]] == list(wdbc.schema.names)


def test_missing_files_and_metrics_are_null(
    releases: Any, fitted: Any, start: Callable[..., Service]
) -> None:
    releases.publish("v1", fitted[0], metrics={"f1": 0.9, "brier": None})
    releases.promote("v1")
    facts = get(start(), "/v1/model").json()
    assert facts["metrics"] == {"f1": 0.9, "brier": None}
    assert facts["importance"] is None
    assert facts["card"] is None


@pytest.fixture
def with_card(releases: Any, fitted: Any, start: Callable[..., Service]) -> Service:
    publish_with_files(releases, "v1", fitted[0])
    releases.promote("v1")
    return start()


def publish_with_files(releases: Any, name: str, model: Any) -> None:
    """Publish a version with a card and an importance, as the workflow does."""
    folder = releases.challenger(name, model)
    (folder / CARD).write_text("# The card\n")
    write_document(folder / IMPORTANCE, RANKING)
    versions.publish(releases.store, releases.draft(name), folder, releases.settings.signing_key)


def test_importance_verdict_and_card_come_from_the_versions_files(with_card: Service) -> None:
    facts = get(with_card, "/v1/model").json()
    assert facts["card"] == "# The card\n"
    assert facts["importance"]["features"][0]["feature"] == "worst_area"
    assert facts["verdict"] == {
        "kind": "first",
        "passed": True,
        "better": False,
        "checks": 0,
        "failed": [],
        "approved_by": None,
        "promoted_at": "2026-11-15T00:00:00Z",
    }


def test_the_card_alone_is_markdown(with_card: Service) -> None:
    answer = get(with_card, "/v1/model", Accept="text/markdown, application/json;q=0.5")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.headers["vary"] == "Accept"
    assert answer.text == "# The card\n"
    assert get(with_card, "/v1/model", Accept="*/*").json()["card"] == answer.text


def test_markdown_of_a_version_without_a_card_is_404(service: Service) -> None:
    answer = get(service, "/v1/model", Accept="text/markdown")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-there")


def test_a_changed_file_is_not_shown(with_card: Service, releases: Any) -> None:
    (releases.store.version("v1") / CARD).write_text("# Forged\n")
    answer = get(with_card, "/v1/model")
    assert answer.status_code == 500
    assert "Forged" not in answer.text


def test_the_files_are_read_once_per_release(with_card: Service, releases: Any) -> None:
    before = get(with_card, "/v1/model").json()
    (releases.store.version("v1") / CARD).unlink()
    assert get(with_card, "/v1/model").json() == before


def test_a_new_release_replaces_the_description(
    with_card: Service, releases: Any, fitted: Any
) -> None:
    assert get(with_card, "/v1/model").json()["version"] == "v1"
    releases.publish("v2", fitted[1])
    releases.promote("v2")
    with_card.model.refresh()
    facts = get(with_card, "/v1/model").json()
    assert (facts["version"], facts["generation"], facts["card"]) == ("v2", 2, None)


def test_without_a_loaded_model_the_model_is_503(start: Callable[..., Service]) -> None:
    answer = get(start(), "/v1/model")
    assert (answer.status_code, answer.json()["code"]) == (503, "no-champion")


def test_a_served_folder_is_described_from_its_manifest_alone(
    releases: Any, fitted: Any, settings: Settings, api_key: str
) -> None:
    live = load_folder(releases.challenger("unpublished", fitted[2]), settings)
    service = Service(create_app(settings, live))
    try:
        facts = get(service, "/v1/model").json()
    finally:
        service.stop()
    assert (facts["version"], facts["source"], facts["card"]) == ("unpublished", "folder", None)


def test_versions_are_listed_newest_first_with_aliases_and_verdicts(
    service: Service, releases: Any, fitted: Any
) -> None:
    check = Check("floor", "f1 at least 0.9", passed=False, blocking=True)
    refused = msgspec.structs.replace(
        releases.passed_verdict("v2"), passed=False, reasons=("f1 at least 0.9",), checks=(check,)
    )
    releases.publish("v2", fitted[1], refused)
    listed = get(service, "/v1/model/versions").json()
    assert (listed["total"], listed["next_cursor"], listed["history_error"]) == (2, None, None)
    second, first = listed["versions"]
    assert (second["version"], second["passed"]) == ("v2", False)
    assert second["reasons"] == ["f1 at least 0.9"]
    assert (second["aliases"], second["promoted_at"]) == ([], None)
    assert (first["version"], first["aliases"]) == ("v1", ["production"])
    assert (first["kind"], first["passed"], first["error"]) == ("first", True, None)
    assert first["as_of"] == first["promoted_at"] == "2026-11-15T00:00:00Z"


def test_the_time_of_promotion_comes_from_the_audit_log(
    service: Service, releases: Any, fitted: Any
) -> None:
    releases.publish("v0", fitted[1])
    audit.append(
        releases.store, "promotion", version="v0", generation=1, actor="gate",
        at="2026-10-01T00:00:00Z",
    )  # fmt: skip
    listed = get(service, "/v1/model/versions").json()["versions"]
    assert {entry["version"]: entry["promoted_at"] for entry in listed} == {
        "v0": "2026-10-01T00:00:00Z",
        "v1": "2026-11-15T00:00:00Z",
    }


def test_versions_are_paged(service: Service, releases: Any, fitted: Any) -> None:
    for name in ("v2", "v3"):
        releases.publish(name, fitted[1])
    seen, cursor = [], ""
    for _ in range(3):
        page = get(service, f"/v1/model/versions?limit=1{cursor}").json()
        seen += [entry["version"] for entry in page["versions"]]
        assert page["total"] == 3
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["v3", "v2", "v1"]
    assert page["next_cursor"] is None


def test_a_damaged_version_is_listed_with_its_error(
    service: Service, releases: Any, fitted: Any
) -> None:
    releases.publish("v2", fitted[1])
    releases.publish("v3", fitted[2])
    (releases.store.version("v2") / "manifest.sig").unlink()
    (releases.store.version("v3") / "verdict.json").write_text("{}")
    listed = get(service, "/v1/model/versions").json()["versions"]
    assert [(entry["version"], entry["error"]) for entry in listed] == [
        ("v3", "artifact-corrupt"),
        ("v2", "signature-invalid"),
        ("v1", None),
    ]
    assert listed[0]["passed"] is None


def test_a_broken_audit_log_or_registry_hides_no_version(service: Service, releases: Any) -> None:
    releases.store.audit.parent.mkdir(parents=True, exist_ok=True)
    releases.store.audit.write_text("{}\n")
    listed = get(service, "/v1/model/versions").json()
    assert (listed["total"], listed["history_error"]) == (1, "audit-broken")
    assert read_registry(releases.store).production is not None
    releases.store.audit.unlink()
    releases.store.registry.write_text("{}")
    listed = get(service, "/v1/model/versions").json()
    assert (listed["total"], listed["history_error"]) == (1, "signature-invalid")
    assert listed["versions"][0]["aliases"] == []


@pytest.mark.parametrize(
    "limit", ["0", "101", "-1", "ten", "", "1e1", "5.0", "+5", " 5", "1_0", "\u0661", "9" * 5000]
)
def test_an_invalid_limit_is_refused(service: Service, limit: str) -> None:
    answer = service.request(
        "GET", "/v1/model/versions", params={"limit": limit}, headers=AUTHORISED
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "header-refused")


def test_an_empty_store_has_no_versions(start: Callable[..., Service]) -> None:
    assert get(start(), "/v1/model/versions").json()["versions"] == []


@pytest.mark.parametrize("path", ["/v1/model", "/v1/model/versions"])
def test_the_model_needs_a_key(service: Service, path: str) -> None:
    assert service.get(path).status_code == 401


@pytest.mark.parametrize("cursor", ["zzz", "", "../v1", "%00"])
def test_an_unknown_cursor_is_refused(service: Any, cursor: str) -> None:
    answer = get(service, f"/v1/model/versions?cursor={cursor}")
    assert (answer.status_code, answer.json()["code"]) == (400, "header-refused")
    assert "zzz" not in answer.text
