"""What a signed version claims about itself, held against itself before it is served."""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.artifacts.evidence import Verdict
from bc_pipeline.artifacts.files import decode_record
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.versions import VERDICT, VersionFiles
from bc_pipeline.errors import ArtifactCorrupt, NotReleasable, SchemaMismatch
from bc_pipeline.schema import FeatureSchema


def checked_schema(manifest: Manifest, problem: str, folder: Path) -> FeatureSchema:
    """The schema of a manifest, after checks that its parts are about the same thing.

    Raises
    ------
    ArtifactCorrupt
        Where it is of another problem, or its threshold is none.
    SchemaMismatch
        Where schema, labels, fingerprint and training ranges do not belong together.
    """
    if manifest.problem != problem:
        raise ArtifactCorrupt(
            f"{manifest.version} is for the problem {manifest.problem!r}, not {problem!r}.",
            path=str(folder),
        )
    try:
        schema = manifest.feature_schema
        fits = schema.fingerprint == manifest.schema_fingerprint
        covered = set(manifest.training_range) == set(schema.names)
        manifest.label_set.code(is_positive=True)
    except (KeyError, TypeError, ValueError):
        fits = covered = False
    if not fits:
        raise SchemaMismatch(
            f"{manifest.version} carries a feature schema that differs from its fingerprint.",
            source=str(folder),
        )
    if not covered:
        raise SchemaMismatch(
            f"{manifest.version} has training ranges of other features than its schema.",
            source=str(folder),
        )
    if not 0 <= manifest.threshold <= 1:
        raise ArtifactCorrupt(
            f"{manifest.version} has a threshold outside 0 to 1.", path=str(folder)
        )
    return schema


def require_release(files: VersionFiles) -> None:
    """Whether the signed verdict in a version allows what the unsigned registry says.

    Raises
    ------
    NotReleasable
        Where the version was rejected, or comes from a backfill that was not to be live.
    ArtifactCorrupt
    """
    verdict = decode_record(files.read(VERDICT), Verdict, files.folder / VERDICT)
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
