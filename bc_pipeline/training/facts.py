"""What a tracking server is told about a version: tags, parameters, metrics, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bc_pipeline.artifacts.evidence import Evaluation, Verdict
from bc_pipeline.artifacts.files import decode_record
from bc_pipeline.artifacts.manifest import DagCode
from bc_pipeline.artifacts.versions import ESTIMATOR, EVALUATION, MODEL, VERDICT, VersionFiles
from bc_pipeline.training.results import CandidateRecord

# Tags under which everything of a version is found again.
VERSION_TAG = "bc.version"
ROLE_TAG = "bc.role"
VERDICT_TAG = "bc.verdict"
PASSED, REJECTED = "passed", "rejected"


@dataclass(frozen=True)
class VersionFacts:
    """A version as it stands on the volume, verified.

    Attributes
    ----------
    files : VersionFiles
    evaluation : Evaluation
    verdict : Verdict
    candidates : tuple of CandidateRecord
        Every candidate of the run that made the version; empty where their results are gone.
    """

    files: VersionFiles
    evaluation: Evaluation
    verdict: Verdict
    candidates: tuple[CandidateRecord, ...]

    @property
    def version(self) -> str:
        return self.files.manifest.version

    @property
    def verdict_word(self) -> str:
        return PASSED if self.verdict.passed else REJECTED

    @property
    def tags(self) -> dict[str, str]:
        """Where the version comes from and what was decided."""
        lineage = self.files.manifest.lineage
        return {
            VERSION_TAG: self.version,
            VERDICT_TAG: self.verdict_word,
            "bc.kind": self.verdict.kind,
            "bc.champion": self.verdict.champion or "none",
            "bc.dataset": lineage.dataset,
            "bc.as_of": lineage.as_of,
            "bc.live": str(lineage.live).lower(),
            "bc.run_id": lineage.run_id,
            "bc.code_version": lineage.code_version,
            "bc.manifest_sha256": self.files.manifest_sha256,
        } | _dag_tags(lineage.dag)

    @property
    def params(self) -> dict[str, str]:
        manifest = self.files.manifest
        return {
            "candidate": manifest.recipe.candidate,
            "recipe": manifest.recipe.recipe,
            "seed": str(manifest.recipe.seed),
            "threshold": repr(manifest.threshold),
            "train_rows": str(manifest.lineage.train_rows),
            "holdout_rows": str(manifest.lineage.holdout_rows),
        } | {f"model.{name}": str(value) for name, value in manifest.recipe.params.items()}

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics on the holdout and of the pooled out-of-fold calls, at the threshold."""
        return _finite("holdout", self.evaluation.challenger.holdout.metrics) | _finite(
            "cv", self.evaluation.cross_validation.metrics
        )

    @property
    def description(self) -> str:
        """One paragraph for the page of the registered version."""
        reasons = "".join(f"\n- {reason}" for reason in self.verdict.reasons)
        return (
            f"{self.version}: {self.files.manifest.recipe.title}, threshold "
            f"{self.files.manifest.threshold:.4f}. Verdict: {self.verdict_word} "
            f"({self.verdict.kind}).{reasons}"
        )

    @property
    def documents(self) -> dict[str, bytes]:
        """Evaluation, verdict, card and figures by name: every file that is not a model."""
        names = self.files.manifest.files.keys() - {MODEL, ESTIMATOR}
        return {name: self.files.read(name) for name in sorted(names)}


def gather(files: VersionFiles, records: list[CandidateRecord]) -> VersionFacts:
    """Read what there is to tell about a version.

    Parameters
    ----------
    files : VersionFiles
    records : list of CandidateRecord
        Of any datasets; those of the version's own run are picked.

    Raises
    ------
    ArtifactCorrupt
    """
    lineage = files.manifest.lineage
    return VersionFacts(
        files,
        decode_record(files.read(EVALUATION), Evaluation, files.folder / EVALUATION),
        decode_record(files.read(VERDICT), Verdict, files.folder / VERDICT),
        tuple(
            record
            for record in records
            if (record.dataset, record.code_version) == (lineage.dataset, lineage.code_version)
        ),
    )


def candidate_params(record: CandidateRecord) -> dict[str, str]:
    return {
        "candidate": record.candidate,
        "recipe": record.recipe,
        "seed": str(record.seed),
        "folds": str(record.folds),
        "repeats": str(record.repeats),
        "rows": str(record.rows),
    } | {f"model.{name}": str(value) for name, value in record.params.items()}


def candidate_metrics(record: CandidateRecord) -> dict[str, float]:
    return _finite("cv", record.metrics)


def _dag_tags(dag: DagCode | None) -> dict[str, str]:
    if dag is None:
        return {}
    return {
        "bc.dag": dag.dag_id,
        "bc.dag_version": dag.version_id,
        "bc.dag_bundle": f"{dag.bundle or 'none'}@{dag.bundle_version or 'unversioned'}",
        "bc.dag_sha256": dag.sha256,
    }


def _finite(prefix: str, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics under a prefix, without those that could not be computed."""
    return {
        f"{prefix}/{name}": value
        for name, value in metrics.items()
        if value is not None and math.isfinite(value)
    }
