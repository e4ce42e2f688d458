"""A version as MLflow gets it: tags, parameters, metrics and files, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bc_pipeline.artifacts.evaluated_rows import evaluated_rows
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.manifest import DagCode
from bc_pipeline.artifacts.signed_bundle import EVALUATION, MODEL_FILES, VERDICT, VersionFiles
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.training.results import CandidateDocument

# Tags that mark everything of a version.
VERSION_TAG = "bc.version"
ROLE_TAG = "bc.role"
VERDICT_TAG = "bc.verdict"
MANIFEST_TAG = "bc.manifest_sha256"
PASSED, REJECTED = "passed", "rejected"
# Figures on the holdout that the list of registered versions shows: it has no column for metrics.
_LISTED = {"F1": "f1", "sensitivity": "sensitivity", "specificity": "specificity"}


@dataclass(frozen=True)
class TrackedVersion:
    """A verified version of the volume, as MLflow gets it.

    Attributes
    ----------
    files : VersionFiles
    evaluation : Evaluation
    verdict : Verdict
    candidates : tuple of CandidateDocument
        Every candidate of the run that made the version; empty where the results were deleted.
    """

    files: VersionFiles
    evaluation: Evaluation
    verdict: Verdict
    candidates: tuple[CandidateDocument, ...]

    @property
    def version(self) -> str:
        return self.files.manifest.version

    @property
    def verdict_word(self) -> str:
        return PASSED if self.verdict.passed else REJECTED

    @property
    def tags(self) -> dict[str, str]:
        """Lineage and verdict."""
        lineage = self.files.manifest.lineage
        return {
            VERSION_TAG: self.version,
            VERDICT_TAG: self.verdict_word,
            "bc.kind": self.verdict.kind,
            "bc.champion": self.verdict.champion or "none",
            "bc.dataset": lineage.dataset,
            "bc.as_of": lineage.as_of,
            "bc.live": str(lineage.live).lower(),
            "bc.refit": str(lineage.refit).lower(),
            "bc.run_id": lineage.run_id,
            "bc.code_version": lineage.code_version,
            MANIFEST_TAG: self.files.manifest_sha256,
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
        """Metrics of nested calls, of the holdout and of pooled out-of-fold calls.

        Beside each net benefit stands that of calling every row, ``net_benefit_treat_all``; that of
        calling none is 0.
        """
        prefixes = {"nested": "nested", "cross_validation": "cv", "holdout": "holdout"}
        metrics: dict[str, float] = {}
        for part in evaluated_rows(self.evaluation):
            treat_all = {"net_benefit_treat_all": part.treat_all}
            metrics |= finite_metrics(prefixes[part.rows], part.metrics | treat_all)
        return metrics

    @property
    def listed_figures(self) -> dict[str, str]:
        """The figures in the list of registered versions, as tags, which it shows in this order."""
        metrics = self.evaluation.challenger.holdout.metrics
        figures = {label: metrics.get(name) for label, name in _LISTED.items()}
        return {label: f"{value:.3f}" for label, value in figures.items() if value is not None}

    @property
    def description(self) -> str:
        """Text for the page of the registered version; the list shows its first 32 characters."""
        figures = ", ".join(f"{label} {value}" for label, value in self.listed_figures.items())
        reasons = "".join(f"\n- {reason}" for reason in self.verdict.reasons)
        return (
            f"{figures} on the holdout. {self.files.manifest.recipe.title}, threshold "
            f"{self.files.manifest.threshold:.4f}. Verdict: {self.verdict_word} "
            f"({self.verdict.kind_note or self.verdict.kind}).{reasons}"
        )

    @property
    def documents(self) -> dict[str, bytes]:
        """Every file that is not a model, by name: evaluation, verdict, card, figures."""
        names = self.files.manifest.files.keys() - MODEL_FILES
        return {name: self.files.read(name) for name in sorted(names)}


def read_tracked_version(
    files: VersionFiles, candidates: list[CandidateDocument]
) -> TrackedVersion:
    """Read what MLflow gets of a version.

    Parameters
    ----------
    files : VersionFiles
    candidates : list of CandidateDocument
        Of any datasets; those of the version's own run are selected.

    Raises
    ------
    ArtifactCorrupt
    """
    lineage = files.manifest.lineage
    return TrackedVersion(
        files,
        files.read_document(EVALUATION, Evaluation),
        files.read_document(VERDICT, Verdict),
        tuple(
            candidate
            for candidate in candidates
            if (candidate.dataset, candidate.code_version)
            == (lineage.dataset, lineage.code_version)
        ),
    )


def candidate_params(candidate: CandidateDocument) -> dict[str, str]:
    return {
        "candidate": candidate.candidate,
        "recipe": candidate.recipe,
        "seed": str(candidate.seed),
        "folds": str(candidate.folds),
        "repeats": str(candidate.repeats),
        "rows": str(candidate.rows),
    } | {f"model.{name}": str(value) for name, value in candidate.params.items()}


def _dag_tags(dag: DagCode | None) -> dict[str, str]:
    if dag is None:
        return {}
    return {
        "bc.dag": dag.dag_id,
        "bc.dag_version": dag.version_id,
        "bc.dag_bundle": f"{dag.bundle or 'none'}@{dag.bundle_version or 'unversioned'}",
        "bc.dag_sha256": dag.sha256,
    }


def finite_metrics(prefix: str, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics with a prefix, without undefined ones."""
    return {
        f"{prefix}/{name}": value
        for name, value in metrics.items()
        if value is not None and math.isfinite(value)
    }
