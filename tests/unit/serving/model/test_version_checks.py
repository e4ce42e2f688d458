from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.signed_bundle import open_version
from bc_pipeline.errors import ArtifactCorrupt, NotReleasable, SchemaMismatch
from bc_pipeline.serving.model.version_checks import require_releasable, validated_schema
from bc_pipeline.settings import Settings

FOLDER = Path("/versions/v1")


def test_a_consistent_manifest_gives_its_schema(releases: Any, wdbc: Any) -> None:
    for threshold in (0.0, 0.4, 1.0):
        manifest = msgspec.structs.replace(releases.draft("v1"), threshold=threshold)
        assert validated_schema(manifest, "wdbc", FOLDER) == wdbc.schema


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_fingerprint": "0" * 64}, "feature schema that differs from its fingerprint"),
        ({"schema": {}}, "feature schema that differs from its fingerprint"),
        ({"labels": {}}, "feature schema that differs from its fingerprint"),
        ({"training_range": {}}, "training ranges of other features"),
        ({"training_median": {"weight": 1.0}}, "training medians of other features"),
    ],
)
def test_parts_that_do_not_belong_together_are_a_mismatch(
    releases: Any, changes: dict[str, Any], reason: str
) -> None:
    manifest = msgspec.structs.replace(releases.draft("v1"), **changes)
    with pytest.raises(SchemaMismatch, match=f"v1 has a? ?{reason}") as refused:
        validated_schema(manifest, "wdbc", FOLDER)
    assert refused.value.source == str(FOLDER)


def test_a_training_range_too_many_is_a_mismatch(releases: Any) -> None:
    manifest = releases.draft("v1")
    ranges = manifest.training_range | {"weight": (0.0, 1.0)}
    with pytest.raises(SchemaMismatch, match="training ranges"):
        validated_schema(msgspec.structs.replace(manifest, training_range=ranges), "wdbc", FOLDER)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"problem": "other"}, "v1 is for the problem 'other', not 'wdbc'"),
        ({"threshold": 1.0001}, "v1 has a threshold outside 0 to 1"),
        ({"threshold": -0.0001}, "v1 has a threshold outside 0 to 1"),
        ({"threshold": float("nan")}, "v1 has a threshold outside 0 to 1"),
    ],
)
def test_another_problem_or_an_impossible_threshold_is_corrupt(
    releases: Any, changes: dict[str, Any], reason: str
) -> None:
    manifest = msgspec.structs.replace(releases.draft("v1"), **changes)
    with pytest.raises(ArtifactCorrupt, match=reason) as refused:
        validated_schema(manifest, "wdbc", FOLDER)
    assert refused.value.path == str(FOLDER)


def open_challenger(
    releases: Any, fitted: Any, settings: Settings, verdict: Any, **lineage: Any
) -> Any:
    changed = msgspec.structs.replace(releases.draft("v1").lineage, **lineage)
    folder = releases.challenger("v1", fitted[0], verdict, lineage=changed)
    return open_version(folder, settings.verify_key)


def test_a_passed_version_of_a_live_run_is_releasable(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    require_releasable(open_challenger(releases, fitted, settings, releases.passed_verdict("v1")))


def test_a_version_is_not_releasable_against_its_verdict(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    passed = releases.passed_verdict("v1")
    cases = (
        (msgspec.structs.replace(passed, passed=False), {}, "the gate rejected it"),
        (passed, {"live": False}, "it comes from a backfilled run"),
        (releases.passed_verdict("v2"), {}, "its verdict is about v2"),
    )
    for verdict, lineage, reason in cases:
        files = open_challenger(releases, fitted, settings, verdict, **lineage)
        with pytest.raises(NotReleasable, match=f"v1 may not be served: {reason}") as refused:
            require_releasable(files)
        assert (refused.value.version, refused.value.reasons) == ("v1", (reason,))


def test_a_version_without_a_verdict_is_corrupt(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    files = open_challenger(releases, fitted, settings, releases.passed_verdict("v1"))
    (files.folder / "verdict.json").unlink()
    with pytest.raises(ArtifactCorrupt):
        require_releasable(files)


@pytest.mark.parametrize("value", [float("nan"), 0.0, 1e9])
def test_a_median_outside_its_training_range_is_a_mismatch(releases: Any, value: float) -> None:
    manifest = releases.draft("v1")
    medians = manifest.training_median | {"mean_radius": value}
    changed = msgspec.structs.replace(manifest, training_median=medians)
    with pytest.raises(SchemaMismatch, match="training medians"):
        validated_schema(changed, "wdbc", FOLDER)
    earlier = msgspec.structs.replace(manifest, training_median={})
    assert validated_schema(earlier, "wdbc", FOLDER) == manifest.feature_schema
