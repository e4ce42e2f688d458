"""Checks of a signed version that do not depend on running it."""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.signed_bundle import VERDICT, VersionFiles
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.errors import ArtifactCorrupt, NotReleasable, SchemaMismatch
from bc_pipeline.schema import FeatureSchema


def validated_schema(manifest: Manifest, problem: str, folder: Path) -> FeatureSchema:
    """The feature schema of a manifest, once the manifest proved consistent.

    Raises
    ------
    ArtifactCorrupt
        Where it belongs to another problem, or its threshold is no probability.
    SchemaMismatch
        Where schema, labels, fingerprint, training ranges and medians do not belong together.
    """
    if manifest.problem != problem:
        raise ArtifactCorrupt(
            f"{manifest.version} is for the problem {manifest.problem!r}, not {problem!r}.",
            path=str(folder),
        )
    try:
        schema = manifest.feature_schema
        matches_fingerprint = schema.fingerprint == manifest.schema_fingerprint
        has_all_ranges = set(manifest.training_range) == set(schema.names)
        manifest.label_set.code(is_positive=True)
    except (KeyError, TypeError, ValueError):
        matches_fingerprint = has_all_ranges = False
    if not matches_fingerprint:
        raise SchemaMismatch(
            f"{manifest.version} has a feature schema that differs from its fingerprint.",
            source=str(folder),
        )
    if not has_all_ranges:
        raise SchemaMismatch(
            f"{manifest.version} has training ranges of other features than its schema.",
            source=str(folder),
        )
    if not _medians_fit(manifest):
        raise SchemaMismatch(
            f"{manifest.version} has training medians of other features than its schema, or "
            "outside their training ranges.",
            source=str(folder),
        )
    if not 0 <= manifest.threshold <= 1:
        raise ArtifactCorrupt(
            f"{manifest.version} has a threshold outside 0 to 1.", path=str(folder)
        )
    return schema


def _medians_fit(manifest: Manifest) -> bool:
    """Whether there is none, or one for each feature, within its training range."""
    medians, ranges = manifest.training_median, manifest.training_range
    return not medians or (
        medians.keys() == ranges.keys()
        and all(ranges[name][0] <= value <= ranges[name][1] for name, value in medians.items())
    )


def require_releasable(files: VersionFiles) -> None:
    """Refuse a version whose verdict contradicts the registry.

    Raises
    ------
    NotReleasable
        Where the version was rejected, or comes from a backfill that was not to be live.
    ArtifactCorrupt
        Where the verdict cannot be read.
    """
    verdict = files.read_document(VERDICT, Verdict)
    manifest = files.manifest
    if verdict.challenger != manifest.version:
        reason = f"its verdict is about {verdict.challenger}"
    elif not verdict.passed:
        reason = "the gate rejected it"
    elif not manifest.lineage.live:
        reason = "it comes from a backfilled run"
    else:
        return
    raise NotReleasable(
        f"{manifest.version} may not be served: {reason}.",
        version=manifest.version,
        reasons=(reason,),
    )
