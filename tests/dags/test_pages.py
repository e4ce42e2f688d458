"""The pages in Airflow's web UI: what they show, to whom, and what they never give out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import warnings
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bc_airflow.volume import Volume
from bc_airflow.web.app import create_app
from fastapi import FastAPI, HTTPException, Request

from bc_pipeline.artifacts import signed_bundle
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings

with warnings.catch_warnings():
    # Starlette's client announces another HTTP library; Airflow pins this one.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

PASSED = "20260104T000000Z-logistic-0a1b2c3d4e"
REJECTED = "20260111T000000Z-logistic-bad0bad0ba"
BASE = "/bc/dags/wdbc_retrain"
EVALUATION = (
    Path(__file__).parents[1] / "contract/fixtures/store_1/models/wdbc/versions"
    "/20261121T181639Z-logistic-2a39830e8e/evaluation.json"
)


def authorise(request: Request) -> None:
    """Stands for Airflow's own; a reader says who he is."""
    if request.headers.get("X-Reader") != "ada":
        raise HTTPException(401, "Not authenticated")


@pytest.fixture
def decisions() -> dict[str, list[str]]:
    """Which versions the gate judged in which run, the winner first."""
    return {}


class FakeRuns:
    """Stands for Airflow's database."""

    def __init__(self, decisions: dict[str, list[str]]) -> None:
        self.decisions = decisions

    def decided_versions(self, _: str, run_id: str) -> list[str]:
        return self.decisions.get(run_id, [])

    def ingest_notes(self, _: str, run_id: str) -> list[str]:
        return ["1 landed file was refused: <b>late</b>.csv."] if run_id == "noted" else []

    def why_selected(self, dag_id: str, run_id: str) -> str:
        known = (dag_id, run_id) == ("wdbc_retrain", "selected")
        return "The loss of <i>logistic</i> is within noise of the best." if known else ""

    def failures(self, _: str, run_id: str) -> list[str]:
        return ["Validate rows failed: <b>12</b> rows."] if run_id.startswith("failed") else []


@pytest.fixture
def app(decisions: dict[str, list[str]]) -> FastAPI:
    return create_app(authorise, FakeRuns(decisions))


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    outer = FastAPI()
    outer.mount("/bc", app)
    return TestClient(outer, headers={"X-Reader": "ada"})


@pytest.fixture
def champion(publish: Any, store: Store) -> None:
    publish(PASSED, run_id="scheduled__1")
    pointer = Pointer(
        version=PASSED,
        manifest_sha256="0" * 64,
        model="Logistic regression",
        recipe="logistic-1",
        f1=0.9756,
        metrics={},
        threshold=0.4,
        dataset="d",
        as_of="2026-01-04T00:00:00Z",
        kind="first",
        promoted_at="2026-01-04T00:05:00Z",
        approved_by="ada",
    )
    write_registry(store, Registry(problem="wdbc", generation=4, production=pointer))


def source_of(inlined: str) -> str:
    """A script as a source of a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(inlined.encode()).digest()).decode()}"


def text_of(html: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


@pytest.mark.usefixtures("champion")
def test_a_verdict_shows_every_check(client: TestClient) -> None:
    response = client.get(f"{BASE}/runs/scheduled__1")
    assert response.status_code == 200
    shown = text_of(response.text)
    assert "Gate verdict passed" in shown
    assert "Refresh." in shown
    assert "Champion since 2026-01-04T00:05:00Z, approved by ada" in shown
    assert (
        "sensitivity floor sensitivity on the holdout at least 0.9 0.9762 0.9524 0.8871 to 1 0.9 "
        "passed" in shown
    )
    assert "latency median answer within 50 ms - - - 50 failed (advisory)" in shown
    assert "For research use. Not a medical device" in shown


@pytest.mark.usefixtures("champion")
def test_a_verdict_shows_net_benefit_beside_that_of_calling_every_row_or_none(
    client: TestClient,
) -> None:
    shown = text_of(client.get(f"{BASE}/runs/scheduled__1").text)
    assert "Metric Cross-validation, 459 rows Holdout, 110 rows" in shown
    assert "net benefit 0.3586 0.3133 to 0.4015 0.3718 0.28 to 0.4627" in shown
    # An evaluation of release 0.1 does not have that of calling every row.
    assert "net benefit of calling every row - - net benefit of calling none 0 0" in shown
    assert shown.index("Performance") < shown.index("Checks")


def test_a_run_of_the_approval_shows_the_verdict_of_its_version(
    client: TestClient, publish: Any, decisions: dict[str, list[str]]
) -> None:
    publish(PASSED, run_id="scheduled__1")
    decisions["approval__scheduled__1"] = [PASSED]
    response = client.get("/bc/dags/wdbc_approval/runs/approval__scheduled__1")
    assert response.status_code == 200
    shown = text_of(response.text)
    assert "Gate verdict passed" in shown
    assert PASSED in shown
    assert "/bc/dags/wdbc_approval/versions/" in response.text


def test_a_rejection_says_why(client: TestClient, publish: Any) -> None:
    publish(REJECTED, passed=False, run_id="manual__2026-01-11T00:00:00+00:00")
    response = client.get(f"{BASE}/runs/manual__2026-01-11T00%3A00%3A00%2B00%3A00")
    shown = text_of(response.text)
    assert "Gate verdict rejected" in shown
    assert "Why it was rejected sensitivity on the holdout 0.833, champion 0.976" in shown
    assert "3 checks, 2 failed, 1 advisory" in shown
    # A figure that could not be computed is a dash, and fails.
    assert "could not be computed 0.9639 - - - FAILED" in shown


@pytest.mark.parametrize("has_verdict", [True, False])
def test_what_ingest_did_not_take_is_shown_first(
    client: TestClient, publish: Any, decisions: dict[str, list[str]], has_verdict: bool
) -> None:
    publish(PASSED, run_id="scheduled__1")
    if has_verdict:
        decisions["noted"] = [PASSED]
    html = client.get(f"{BASE}/runs/noted").text
    assert "Not taken by ingest 1 landed file was refused: <b>late</b>.csv." in text_of(html)
    assert "refused: &lt;b&gt;late&lt;/b&gt;.csv." in html
    assert html.index("Not taken") < html.index("Checks" if has_verdict else "This run has no")
    assert "Not taken" not in client.get(f"{BASE}/runs/scheduled__1").text


def test_what_records_hold_is_escaped(client: TestClient, publish: Any) -> None:
    publish(REJECTED, passed=False, run_id="r")
    for path in (f"{BASE}/runs/r", BASE):
        html = client.get(path).text
        assert "<script>alert" not in html
        assert "&lt;script&gt;" in html


def test_a_run_that_repeats_an_earlier_one_shows_its_version(
    client: TestClient, publish: Any, decisions: dict[str, list[str]]
) -> None:
    publish(PASSED, run_id="scheduled__1")
    decisions["manual__2"] = [PASSED]
    assert PASSED in client.get(f"{BASE}/runs/manual__2").text


@pytest.mark.parametrize("known", [True, False])
def test_a_run_with_two_challengers_shows_both_verdicts(
    client: TestClient, publish: Any, decisions: dict[str, list[str]], known: bool
) -> None:
    publish(PASSED, run_id="scheduled__1")
    publish(REJECTED, passed=False, run_id="scheduled__1")
    if known:
        decisions["scheduled__1"] = [PASSED, REJECTED]
    shown = text_of(client.get(f"{BASE}/runs/scheduled__1").text)
    assert "2 challengers: " in shown
    assert shown.index("Gate verdict passed") < shown.index("Gate verdict rejected")
    assert shown.count("Why it was rejected") == 1


def test_a_run_without_a_verdict_says_so(client: TestClient, publish: Any) -> None:
    publish(PASSED, run_id="another")
    response = client.get(f"{BASE}/runs/scheduled__1")
    assert response.status_code == 200
    assert "No verdict" in response.text
    assert PASSED not in response.text


def test_a_backfilled_verdict_is_named_so(client: TestClient, publish: Any) -> None:
    publish(PASSED, run_id="backfill__1", live=False)
    assert "From a backfilled run" in client.get(f"{BASE}/runs/backfill__1").text
    assert "(backfill)" in client.get(BASE).text


@pytest.mark.usefixtures("champion")
def test_models_shows_champion_history_and_audit(
    client: TestClient, publish: Any, store: Store
) -> None:
    publish(REJECTED, passed=False, run_id="r", as_of="2026-01-11T00:00:00Z")
    store.audit.parent.mkdir(parents=True)
    line = {
        "at": "2026-01-04T00:05:00Z",
        "event": "promotion",
        "version": PASSED,
        "actor": "pipeline",
        "run_id": "scheduled__1",
        "details": {"reason": "it passed"},
        "sha256": "5ea1",
    }
    store.audit.write_text(json.dumps(line) + '\n{"at": "cut')
    shown = text_of(client.get(BASE).text)
    assert f"Champion {PASSED}" in shown
    assert "approved by ada, generation 4" in shown
    assert shown.index(f"{REJECTED} 2026-01-11") < shown.index(f"{PASSED} champion 2026-01-04")
    assert f"2026-01-04T00:05:00Z promotion {PASSED} pipeline it passed scheduled__1" in shown
    assert "5ea1" not in shown


@pytest.mark.parametrize(
    ("event", "details", "shown"),
    [
        ("approval", {"approved": True}, "approval given"),
        ("approval", {"approved": False}, "approval refused"),
        ("verdict", {"passed": True}, "verdict: passed"),
        ("verdict", {"passed": False}, "verdict: rejected"),
        ("release_started", {}, "release started"),
    ],
)
def test_the_audit_log_tells_outcomes(
    client: TestClient, store: Store, event: str, details: dict[str, bool], shown: str
) -> None:
    store.audit.parent.mkdir(parents=True)
    store.audit.write_text(json.dumps({"event": event, "actor": "ada", "details": details}) + "\n")
    assert f"{shown} ada" in text_of(client.get(BASE).text)


def test_models_without_any(client: TestClient) -> None:
    response = client.get(BASE)
    assert response.status_code == 200
    assert "There is no champion yet" in response.text


def test_figures_and_card_are_served_from_verified_bytes(client: TestClient, publish: Any) -> None:
    publish(PASSED, run_id="r")
    html = client.get(f"{BASE}/runs/r").text
    sources = re.findall(r'<img src="([^"]+)"', html)
    assert [source.rsplit("/", 1)[-1] for source in sources] == ["confusion.png", "roc.png"]
    for source in sources:
        response = client.get(source)
        assert response.headers["content-type"] == "image/png"
        assert response.headers["content-security-policy"].endswith("sandbox")
    response = client.get(f"{BASE}/versions/{PASSED}/files/card.md")
    assert response.text == "# Model card\n"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    [
        "model.onnx",
        "verdict.json",
        "manifest.json",
        "manifest.sig",
        "figures/nothing.png",
        "figures/..%2Fcard.md",
        "..%2F..%2Fregistry.json",
        "..%2F..%2F..%2F..%2Fkeys%2Fsigning.pem",
        "%2Fetc%2Fpasswd",
        "card.md%00.png",
    ],
)
def test_nothing_else_is_served(client: TestClient, publish: Any, name: str) -> None:
    publish(PASSED, run_id="r")
    response = client.get(f"{BASE}/versions/{PASSED}/files/{name}")
    assert response.status_code == 404
    assert "Model card" not in response.text


@pytest.mark.parametrize("version", ["nothing", "..%2Fversions", ".hidden", "a%00b"])
def test_a_version_that_is_not_there(client: TestClient, version: str) -> None:
    assert client.get(f"{BASE}/versions/{version}").status_code == 404


def test_a_changed_figure_is_not_shown(client: TestClient, publish: Any, store: Store) -> None:
    publish(PASSED, run_id="r")
    (store.version(PASSED) / "figures" / "roc.png").write_text("<svg/>")
    response = client.get(f"{BASE}/versions/{PASSED}/files/figures/roc.png")
    assert response.status_code == 500
    assert "is not the file that was signed" in response.text


def test_an_unsigned_version_is_not_shown(client: TestClient, publish: Any, store: Store) -> None:
    publish(PASSED, run_id="r")
    (store.version(PASSED) / signed_bundle.SIGNATURE).unlink()
    assert client.get(f"{BASE}/versions/{PASSED}").status_code == 500
    assert PASSED not in client.get(BASE).text


@pytest.mark.usefixtures("champion")
def test_no_route_is_open(app: FastAPI, client: TestClient) -> None:
    paths = [
        BASE,
        f"{BASE}/runs/scheduled__1",
        f"{BASE}/versions/{PASSED}",
        f"{BASE}/versions/{PASSED}/files/card.md",
        f"{BASE}/versions/{PASSED}/card",
        f"{BASE}/data-docs/index.html",
        "/bc/dags/unknown",
    ]
    assert len(app.routes) == 6
    for path in paths:
        response = client.get(path, headers={"X-Reader": "mallory"})
        assert response.status_code == 401, path
        assert PASSED not in response.text
    for path in ("/bc/docs", "/bc/openapi.json", "/bc/"):
        assert client.get(path).status_code == 404


def test_a_dag_of_somebody_else_has_no_models(client: TestClient) -> None:
    assert client.get("/bc/dags/other_retrain").status_code == 404
    assert client.get("/bc/dags/wdbc_retrain_2/versions/x").status_code == 404


@pytest.mark.usefixtures("champion")
def test_pages_forbid_other_scripts_and_foreign_frames(client: TestClient) -> None:
    response = client.get(BASE)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    (script,) = re.findall(r"<script>(.*?)</script>", response.text, flags=re.DOTALL)
    assert f"script-src '{source_of(script)}';" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["cache-control"] == "no-store"
    assert "http" not in re.sub(r"<style>.*?</style>", "", response.text, flags=re.DOTALL)


def test_the_audit_tail_is_bounded(store: Store, settings: Any) -> None:
    store.audit.parent.mkdir(parents=True)
    store.audit.write_text("".join(f'{{"sequence": {number}}}\n' for number in range(500)))
    tail = Volume(store, settings.verify_key).audit_tail(25)
    assert [entry["sequence"] for entry in tail] == list(range(499, 474, -1))


def test_data_docs_are_shown_and_nothing_beside_them(client: TestClient, store: Store) -> None:
    page = store.validation_page("v1")
    write_signed(store, page, b"<html><head></head><body>111 expectations</body></html>")
    (store.data_docs / "notes.txt").write_text("not a page")
    (store.data / "secret.html").write_text("outside")

    shown = client.get(f"{BASE}/data-docs/validations/v1.html")
    assert "111 expectations" in shown.text
    (script,) = re.findall(r"<script>(.*?)</script>", shown.text, flags=re.DOTALL)
    assert f"script-src '{source_of(script)}';" in shown.headers["Content-Security-Policy"]
    assert shown.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for name in ("validations/v2.html", "notes.txt", "..%2Fsecret.html", "%2E%2E/secret.html"):
        assert client.get(f"{BASE}/data-docs/{name}").status_code == 404, name


def test_a_page_of_the_data_docs_that_was_changed_or_is_not_signed_is_not_shown(
    client: TestClient, store: Store
) -> None:
    changed, unsigned = store.validation_page("v1"), store.validation_page("v2")
    write_signed(store, changed, b"<html>2 failed</html>")
    changed.write_bytes(b"<html>none failed</html>")
    unsigned.write_bytes(b"<html>none failed</html>")
    for name, why in (("v1", "was changed after it was signed"), ("v2", "is not signed")):
        shown = client.get(f"{BASE}/data-docs/validations/{name}.html")
        assert shown.status_code == 500
        assert why in shown.text
        assert "none failed" not in shown.text


def test_a_verdict_says_who_requested_it(client: TestClient, publish: Any, store: Store) -> None:
    publish(PASSED, run_id="r")
    assert "Requested by" not in client.get(f"{BASE}/runs/r").text
    details = {"requested_by": "hospital-<a> (API key 1f2e), as service"}
    audit.append(store, "verdict", version=PASSED, generation=0, actor="p", details=details)
    assert "hospital-&lt;a&gt; (API key 1f2e), as service" in client.get(f"{BASE}/runs/r").text


def test_a_verdict_says_who_decided_and_why(client: TestClient, publish: Any, store: Store) -> None:
    publish(PASSED, run_id="r")
    assert "Decisions" not in client.get(f"{BASE}/runs/r").text
    for approved, reason in ((False, "labels"), (True, "read the <card>")):
        details = {"approved": approved, "reason": reason, "manifest_sha256": "0"}
        audit.append(store, "approval", version=PASSED, generation=0, actor="ada", details=details)
    details = {"replaces": PASSED, "reason": "harm"}
    audit.append(store, "rollback", version=REJECTED, generation=2, actor="otto", details=details)
    shown = text_of(client.get(f"{BASE}/runs/r").text)
    parts = (
        "refused by ada at",
        ": labels; approved by ada at",
        "; rolled back by otto at",
        "harm",
    )
    positions = [shown.index(part) for part in parts]
    assert positions == sorted(positions)
    assert "read the &lt;card&gt;" in client.get(f"{BASE}/runs/r").text


def test_a_verdict_leads_to_the_validation_of_its_rows(client: TestClient, publish: Any) -> None:
    publish(PASSED, run_id="r")
    assert "/data-docs/validations/" in client.get(f"{BASE}/runs/r").text


@pytest.mark.usefixtures("champion")
def test_what_is_live_is_not_asked_about_again(store: Store, settings: Settings) -> None:
    volume = Volume(store, settings.verify_key)
    assert volume.is_champion(PASSED)
    assert not volume.is_champion(REJECTED)


def test_failures_come_first_and_as_findings(client: TestClient, publish: Any) -> None:
    publish(REJECTED, passed=False, run_id="r")
    html = client.get(f"{BASE}/runs/r").text
    shown = text_of(html)
    assert "Why it was rejected sensitivity on the holdout 0.833, champion 0.976, needs" in shown
    assert shown.index("needs at least 0.9") < shown.index("State") < shown.index("Performance")
    # The finding of a check that does not reject stands apart.
    assert "Failed, but advisory" in shown
    rows = re.findall(r"<tr( class=\"failed\")?>\s*<th scope=\"row\">[^<]+</th>\s*<td>", html)
    assert rows == sorted(rows, reverse=True)
    assert rows[0]


def test_the_champions_figures_and_threshold_stand_beside(
    client: TestClient, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(PASSED, run_id="r")
    assert "Champion, the same holdout rows" not in client.get(f"{BASE}/runs/r").text

    evaluation = msgspec.json.decode(EVALUATION.read_bytes(), type=Evaluation)
    champion = msgspec.structs.replace(
        evaluation.challenger.holdout, threshold=0.321, metrics={"f1": 0.4567}, intervals={}
    )
    read = Volume.judged
    monkeypatch.setattr(
        Volume, "judged", lambda *arguments: replace(read(*arguments), champion=champion)
    )
    shown = text_of(client.get(f"{BASE}/runs/r").text)
    assert "Threshold 0.4137; the champion's 0.321" in shown
    assert "Champion, the same holdout rows" in shown
    assert re.search(r" f1 [^a-z]+ to [^a-z]+ to [^a-z]+0\.4567 ", shown)


def test_why_a_candidate_won(
    client: TestClient, publish: Any, decisions: dict[str, list[str]]
) -> None:
    publish(PASSED, run_id="selected")
    publish(REJECTED, passed=False, run_id="selected", refit=True)
    decisions["selected"] = [PASSED, REJECTED]
    html = client.get(f"{BASE}/runs/selected").text
    shown = text_of(html)
    assert "Why this candidate won Selected by cross-validation: The loss of" in shown
    assert "&lt;i&gt;logistic" in html
    assert "Of 2 challengers, it is the only one that passed the gate." in shown
    assert "How this candidate was chosen It is the champion's recipe, fitted again" in shown


def test_a_failed_run_says_why_first(client: TestClient, publish: Any) -> None:
    html = client.get(f"{BASE}/runs/failed_1").text
    shown = text_of(html)
    assert "No verdict: the run failed Why the run failed Validate rows failed:" in shown
    assert "&lt;b&gt;12&lt;/b&gt; rows" in html
    publish(PASSED, run_id="failed_2")
    shown = text_of(client.get(f"{BASE}/runs/failed_2").text)
    assert shown.index("Validate rows failed") < shown.index("Gate verdict")


def test_the_card_is_rendered_without_html_of_its_own(
    client: TestClient, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(PASSED, run_id="r")
    (link,) = re.findall(r'<a href="([^"]+)">Model card', client.get(f"{BASE}/runs/r").text)
    assert "<h1>Model card</h1>" in client.get(link).text

    hostile = (
        "# <script>alert(1)</script>\n\n| `a` | b |\n|---|---|\n| <img src=x onerror=y> | "
        "[click](javascript:alert(1)) |\n\n![figure](https://example.org/x.png)"
    )
    monkeypatch.setattr(Volume, "file", lambda *_: (hostile.encode(), ""))
    html = client.get(link).text
    assert "<td>&lt;img src=x onerror=y&gt;</td>" in html
    assert "<script>alert" not in html
    assert "<img" not in html
    assert 'href="javascript' not in html


def test_a_version_without_a_card(client: TestClient, publish: Any, store: Store) -> None:
    publish(PASSED, run_id="r")
    assert client.get(f"{BASE}/versions/nothing/card").status_code == 404


def test_pages_follow_the_theme_of_airflow(client: TestClient) -> None:
    html = client.get(BASE).text
    # Both themes' colours are chosen by the colour scheme, which the script sets.
    assert "prefers-color-scheme" not in html
    assert "--paper: light-dark(" in html
    assert "document.documentElement.style.colorScheme = " in html
