"""Batch scoring on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from bc_pipeline.artifacts.files import (
    encode_document,
    sha256_bytes,
    sha256_file,
    staged_directory,
)
from bc_pipeline.artifacts.predictors import load_predictor
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.signed_document import make_signature, read_signed_document
from bc_pipeline.data.streamed_suite import StreamedSuite
from bc_pipeline.data.suites import read_suite
from bc_pipeline.errors import DataError, Defect, FileRefused
from bc_pipeline.scoring.batch_plan import BatchJob, output_stems, source_changed
from bc_pipeline.scoring.scores_manifest import MANIFEST, ScoresManifest, make_manifest
from bc_pipeline.scoring.table_scoring import Progress, ScoreReport, score_file
from bc_pipeline.tables.locations import Openable
from bc_pipeline.workspace import Workspace


def score_locally(
    workspace: Workspace, champion: VersionFiles, job: BatchJob
) -> tuple[str, ScoresManifest]:
    """Score files on this machine; returns the output folder and its manifest.

    Raises
    ------
    FileRefused
        Where no file can be read.
    TransientError
        Where a file changed while it was scored.
    """
    job, digests = _hash_inputs(job)
    final = Path(job.output(digests))
    if not final.exists():
        with staged_directory(final) as staged:
            manifest = _score_files(workspace, champion, job, digests, staged)
            data = encode_document(manifest)
            name, signature = make_signature(workspace.store, final / MANIFEST, sha256_bytes(data))
            (staged / name).write_bytes(signature)
            (staged / MANIFEST).write_bytes(data)
    return str(final), read_signed_document(workspace.store, final / MANIFEST, ScoresManifest)


def _hash_inputs(job: BatchJob) -> tuple[BatchJob, dict[str, str]]:
    """The job with its readable files alone, and their digests by name."""
    digests: dict[str, str] = {}
    refused = dict(job.refused)
    for location in job.inputs:
        try:
            digests[location.name] = sha256_file(Path(location.url))
        except OSError as error:
            refused[location.name] = f"cannot be read: {error.strerror}."
    if not digests:
        raise FileRefused(
            "No file could be scored.",
            "Correct these files, or take them out of the worklist.",
            defects=tuple(Defect(f"{name}: {reason[:-1]}") for name, reason in refused.items()),
        )
    readable = tuple(location for location in job.inputs if location.name in digests)
    return msgspec.structs.replace(job, inputs=readable, refused=refused), digests


def score_one(
    workspace: Workspace,
    champion: VersionFiles,
    source: Openable,
    target: Path,
    progress: Progress | None = None,
) -> tuple[ScoreReport, list[str]]:
    """Score one file; also returns the ids of the validations of its rows."""
    suite = read_suite(workspace.problem, "scoring", workspace.settings.expectations_dir)
    predictor = load_predictor(champion, workspace.settings.threads)
    judged = StreamedSuite(suite)
    validations: list[str] = []

    def conclude(source_sha256: str) -> None:
        document = judged.conclude(workspace.store, predictor.manifest.version, source_sha256)
        validations.append(document.validation)

    report = score_file(
        predictor,
        source,
        target,
        progress=progress,
        validate=judged,
        start_again=judged.start_again,
        conclude=conclude,
    )
    return report, validations


def _score_files(
    workspace: Workspace,
    champion: VersionFiles,
    job: BatchJob,
    digests: Mapping[str, str],
    folder: Path,
) -> ScoresManifest:
    refused: dict[str, str] = {}
    reports: list[dict[str, Any]] = []
    validations: list[str] = []
    stems = output_stems([location.name for location in job.inputs])
    for location, stem in zip(job.inputs, stems, strict=True):
        target = folder / f"{stem}.scores{location.suffix.lower()}"
        try:
            report, validated = score_one(workspace, champion, location, target)
        except DataError as error:
            # The other files of the batch keep their scores.
            refused[location.name] = str(error)
            continue
        # Outputs are named by their path in the batch's folder.
        below = PurePosixPath(stem).parent
        rejected = report.rejected_file and str(below / report.rejected_file)
        named = {"output": str(below / report.output), "rejected_file": rejected}
        reports.append(msgspec.to_builtins(report) | named)
        validations += validated
    # The folder is named by the digests.
    changed = [
        report["source"]
        for report in reports
        if report["source_sha256"] != digests[report["source"]]
    ]
    if changed:
        raise source_changed(", ".join(changed))
    return make_manifest(job, digests, reports, refused, validations)
