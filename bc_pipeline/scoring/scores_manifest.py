"""The manifest of a batch of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.scoring.batch_plan import BatchJob
from bc_pipeline.workspace import Origin

MANIFEST = "manifest.json"


class ScoresManifest(Document, frozen=True, kw_only=True):
    """Inputs, model and results of a batch; the format of the folder's ``manifest.json``.

    Attributes
    ----------
    inputs : dict of str to str
        Name of each input file, and its SHA-256.
    refused : dict of str to str
        Name of each input file that could not be scored, and the reason.
    validations : tuple of str
        Ids of the scoring suite's results, one for each scored file; earlier releases had more, one
        for each portion of rows.
    reports : tuple of dict
        One `ScoreReport` for each scored file. For files that Spark scored, ``parts`` and
        ``rejected_parts`` list the output files, each with its digest and size.
    origin : Origin or None
        None in format 1, which did not have it.
    outside_training_range : int
        Scored rows with a value outside the range of the rows that the model was trained on; 0 in
        formats 1 and 2, which did not count them.
    """

    format: int = 3
    problem: str
    version: str
    manifest_sha256: str
    interval_start: str | None
    as_of: str
    inputs: dict[str, str]
    refused: dict[str, str]
    read: int
    scored: int
    rejected: int
    validations: tuple[str, ...]
    reports: tuple[dict[str, object], ...]
    origin: Origin | None = None
    outside_training_range: int = 0


def signed_path(store: Store, url: str) -> Path:
    """Path that a manifest is signed under: its place among the scores, on a disk or elsewhere.

    Parameters
    ----------
    url : str
        Path or URL of the folder of the scores.
    """
    return store.scores.joinpath(*url.rstrip("/").split("/")[-2:], MANIFEST)


def make_manifest(
    job: BatchJob,
    inputs: Mapping[str, str],
    reports: Sequence[dict[str, Any]],
    refused: dict[str, str],
    validations: Sequence[str],
) -> ScoresManifest:
    """The manifest of a job, with the sums of its reports."""
    return ScoresManifest(
        problem=job.problem,
        version=job.version,
        manifest_sha256=job.manifest_sha256,
        interval_start=job.interval_start,
        as_of=job.as_of,
        inputs=dict(inputs),
        refused={**job.refused, **refused},
        read=sum(report["read"] for report in reports),
        scored=sum(report["scored"] for report in reports),
        rejected=sum(report["rejected"] for report in reports),
        validations=tuple(validations),
        reports=tuple(reports),
        origin=job.origin,
        outside_training_range=sum(report["outside_training_range"] for report in reports),
    )
