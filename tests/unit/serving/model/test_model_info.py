from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.files import write_document
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.artifacts.signed_bundle import CARD, EVALUATION, IMPORTANCE
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.errors import ArtifactCorrupt
from bc_pipeline.serving.model import model_info
from bc_pipeline.serving.model.loaded_model import load_folder
from bc_pipeline.serving.model.model_info import (
    ModelVerdict,
    build_model_info,
    model_features,
    pointers_by_alias,
    read_model_info,
)
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.settings import Settings
from tests.conftest import pointer_to
from tests.unit.serving.conftest import RANKING

EVALUATED = (
    Path(__file__).parents[3] / "contract/fixtures/store_1/models/wdbc/versions"
    "/20261121T181639Z-logistic-2a39830e8e/evaluation.json"
)


def publish_complete(releases: Any, name: str, fit: Any) -> None:
    """Publish a version with a card, an importance and an advisory check that failed."""
    checks = tuple(
        Check(check, "f1 at least 0.9", passed=check == "floor", blocking=check == "floor")
        for check in ("floor", "advice")
    )
    verdict = msgspec.structs.replace(releases.passed_verdict(name), checks=checks, better=True)
    folder = releases.challenger(name, fit, verdict)
    (folder / CARD).write_text("# The card\n")
    write_document(folder / IMPORTANCE, RANKING)
    shutil.copy(EVALUATED, folder / EVALUATION)
    versions.publish(releases.store, releases.draft(name), folder, releases.settings.signing_key)


@pytest.fixture
def watcher(releases: Any, fitted: Any, settings: Settings) -> ModelWatcher:
    """Serves a version with all files."""
    publish_complete(releases, "v1", fitted[0])
    releases.promote("v1")
    watcher = ModelWatcher(settings)
    watcher.refresh()
    return watcher


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the name of each version whose files are opened."""
    opened: list[str] = []
    real = model_info.open_stored

    def open_stored(store: Any, version: str, *keys: Any) -> Any:
        opened.append(version)
        return real(store, version, *keys)

    monkeypatch.setattr(model_info, "open_stored", open_stored)
    return opened


def test_a_folder_is_described_by_its_manifest_alone(
    releases: Any, fitted: Any, settings: Settings, opened: list[str]
) -> None:
    model = load_folder(releases.challenger("v1", fitted[0]), settings)
    info = read_model_info(settings, model)
    manifest = model.manifest
    assert opened == []
    assert json.loads(msgspec.json.encode(info)) == {
        "problem": "wdbc",
        "version": "v1",
        "manifest_sha256": model.manifest_sha256,
        "generation": 0,
        "source": "folder",
        "candidate": "logistic",
        "title": "Logistic regression",
        "notice": "Decision support for research; not a medical device.",
        "labels": [
            {"name": "malignant", "code": 0, "positive": True},
            {"name": "benign", "code": 1, "positive": False},
        ],
        "threshold": {
            "value": 0.4,
            "meaning": "The call is malignant exactly where the probability of malignant is "
            "above this value.",
        },
        "features": json.loads(msgspec.json.encode(model_features(manifest))),
        "evaluation": [],
        "metrics": {"f1": 0.9},
        "importance": None,
        "verdict": None,
        "lineage": json.loads(msgspec.json.encode(manifest.lineage)),
        "libraries": {},
        "card": None,
    }


def test_features_have_their_ranges_and_other_names(releases: Any, wdbc: Any) -> None:
    manifest = releases.draft("v1")
    features = model_features(manifest)
    assert [feature.name for feature in features] == list(wdbc.schema.names)
    for feature, defined in zip(features, wdbc.schema.features, strict=True):
        assert feature.unit == defined.unit
        assert feature.other_names == tuple(dict.fromkeys(defined.aliases))
        limits = feature.physical_range
        assert (limits.minimum, limits.maximum) == (defined.minimum, defined.maximum)
        trained = feature.training_range
        assert (trained.minimum, trained.maximum) == manifest.training_range[defined.name]


def test_importance_verdict_and_card_are_read_from_the_version(
    watcher: ModelWatcher, settings: Settings
) -> None:
    assert watcher.current is not None
    info = read_model_info(settings, watcher.current)
    verdict = ModelVerdict(
        kind="first",
        passed=True,
        better=True,
        checks=2,
        failed=("advice",),
        approved_by=None,
        promoted_at="2026-11-15T00:00:00Z",
    )
    described = build_model_info(watcher.current, RANKING, verdict, "# The card\n", info.evaluation)
    assert info == described


def test_approval_and_time_come_from_the_pointer_to_this_version(
    watcher: ModelWatcher, settings: Settings, releases: Any
) -> None:
    registry = read_registry(releases.store)
    assert registry.production is not None
    approved = msgspec.structs.replace(registry.production, approved_by="anna")
    other = msgspec.structs.replace(approved, manifest_sha256="0" * 64, approved_by="otto")
    assert watcher.current is not None
    for changes, approver in (
        ({"production": approved, "staging": other}, "anna"),
        ({"production": other, "previous": approved}, "anna"),
        ({"production": other}, None),
    ):
        aliases = {"production": None, "previous": None, "staging": None} | changes
        write_registry(releases.store, msgspec.structs.replace(registry, **aliases))
        model_info._read_files.cache_clear()
        info = read_model_info(settings, watcher.current)
        assert info.verdict is not None
        assert info.verdict.approved_by == approver
        assert (info.verdict.promoted_at is None) == (approver is None)


def test_files_are_read_once_per_generation(
    watcher: ModelWatcher, settings: Settings, releases: Any, opened: list[str]
) -> None:
    assert watcher.current is not None
    first = read_model_info(settings, watcher.current)
    assert read_model_info(settings, watcher.current) == first
    assert opened == ["v1"]
    releases.promote("v1")
    watcher.refresh()
    assert read_model_info(settings, watcher.current).generation == 2
    assert opened == ["v1", "v1"]


def test_a_version_that_was_replaced_under_the_same_name_is_not_described(
    watcher: ModelWatcher, settings: Settings, releases: Any, fitted: Any
) -> None:
    shutil.rmtree(releases.store.version("v1"))
    releases.publish("v1", fitted[1], threshold=0.5)
    assert watcher.current is not None
    with pytest.raises(ArtifactCorrupt, match="manifest of v1 is no longer the one") as refused:
        read_model_info(settings, watcher.current)
    assert refused.value.path == str(releases.store.version("v1"))


def test_pointers_that_are_not_set_are_left_out() -> None:
    assert pointers_by_alias(Registry(problem="wdbc", generation=0)) == {}
    pointer = pointer_to("v1", "m")
    registry = Registry(problem="wdbc", generation=1, staging=pointer, previous=pointer)
    assert pointers_by_alias(registry) == {"previous": pointer, "staging": pointer}


def test_figures_are_those_of_the_signed_evaluation(
    watcher: ModelWatcher, settings: Settings
) -> None:
    assert watcher.current is not None
    info = read_model_info(settings, watcher.current)
    evaluation = json.loads(EVALUATED.read_bytes())
    assert [part.rows for part in info.evaluation] == ["cross_validation", "holdout"]
    assert info.evaluation[1].metrics == evaluation["challenger"]["holdout"]["metrics"]
    assert build_model_info(watcher.current).evaluation == ()
