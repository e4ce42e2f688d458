"""Results of cross-validation, and how they are stored on the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.evidence import labelled_rows_digest
from bc_pipeline.artifacts.files import (
    encode_document,
    sha256_bytes,
    staged_directory,
)
from bc_pipeline.artifacts.signed_document import make_signature, read_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.code_version import code_version
from bc_pipeline.errors import ArtifactCorrupt, NotReproducible, NotStored
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.problems.policies import SelectionPolicy
from bc_pipeline.schema import json_digest
from bc_pipeline.training.folds import assign_folds
from bc_pipeline.training.out_of_fold_rows import OutOfFoldRows
from bc_pipeline.training.threshold import sensitivity_threshold

RESULT_FILE = "result.json"
PROBABILITY_FILE = "out_of_fold.parquet"


class CandidateDocument(Document, frozen=True, kw_only=True):
    """Format of a candidate's ``result.json``.

    Attributes
    ----------
    seed : int
        Of the folds and of every fit.
    losses : tuple of tuple of float
        Mean Brier loss of each fold, by repeat; input of the corrected t-test.
    metrics : dict of str to float
        ``brier roc_auc sensitivity specificity``: means over the repeats, with calls at .5.
        ``nested_sensitivity nested_specificity``: of `OutOfFoldRows.nested_call`.
    out_of_fold_sha256 : str
        Of the file with the probabilities.
    """

    format: int = 1
    problem: str
    candidate: str
    title: str
    recipe: str
    params: dict[str, Any]
    seed: int
    dataset: str
    code_version: str
    folds: int
    repeats: int
    rows: int
    positive_rows: int
    rows_digest: str
    losses: tuple[tuple[float, ...], ...]
    metrics: dict[str, float]
    out_of_fold_sha256: str


@dataclass(frozen=True, eq=False, kw_only=True)
class CandidateResult(OutOfFoldRows):
    """A candidate's document and its out-of-fold probabilities."""

    document: CandidateDocument

    def threshold(self, target: float) -> float:
        """The threshold that `sensitivity_threshold` sets on the pooled probabilities."""
        return sensitivity_threshold(self.document.candidate, self.positive, self.pooled, target)

    @property
    def losses(self) -> np.ndarray:
        """Mean Brier loss of each fold, shape (repeats, folds)."""
        return np.asarray(self.document.losses, dtype=np.float64)


def load_result(
    store: Store, problem: Problem, dataset: str, candidate: Candidate
) -> CandidateResult:
    """Read a stored result, and verify its digest, its inputs and its consistency.

    Raises
    ------
    NotStored
        Where this code has not cross-validated the candidate on the dataset.
    SignatureInvalid, ArtifactCorrupt
    """
    folder = _folder(store, problem, dataset, candidate)
    remedy = f"Delete {folder}; the next run computes it again."
    if not folder.is_dir():
        raise NotStored(
            f"{candidate.title} has not been cross-validated on dataset {dataset[:12]} "
            f"by code {code_version()}.",
            f"Run the train step for {candidate.name} first.",
        )
    stored = read_signed_document(store, folder / RESULT_FILE, CandidateDocument, remedy=remedy)
    path = folder / PROBABILITY_FILE

    def corrupt(fault: str) -> ArtifactCorrupt:
        return ArtifactCorrupt(
            f"The stored cross-validation of {candidate.title} {fault}.",
            remedy,
            path=str(path),
        )

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise corrupt("lacks its probabilities") from None
    if sha256_bytes(data) != stored.out_of_fold_sha256:
        raise corrupt("differs from its digest")
    rows = OutOfFoldRows.decode(data)
    if len(rows.probability) != problem.selection.repeats:
        raise corrupt("has another number of repeats")
    result = _result(problem, candidate, dataset, rows, data)
    # The document is computed again: its figures must follow from the probabilities.
    if not _equal_up_to_rounding(stored, result.document):
        raise corrupt("does not follow from its probabilities and inputs")
    return result


def list_documents(store: Store) -> list[CandidateDocument]:
    """Documents of every stored result, for display: signed, and not computed again.

    Raises
    ------
    SignatureInvalid
    ArtifactCorrupt
        Where a file cannot be decoded.
    """
    return [
        read_signed_document(store, path, CandidateDocument)
        for path in sorted(store.candidates.glob(f"[!.]*/{RESULT_FILE}"))
    ]


def _folder(store: Store, problem: Problem, dataset: str, candidate: Candidate) -> Path:
    """The folder of a result, named after a digest of all its inputs."""
    inputs = {
        "problem": problem.name,
        "dataset": dataset,
        "split": asdict(problem.split),
        "selection": asdict(problem.selection),
        "recipe": candidate.recipe,
        "params": dict(candidate.params),
        "code_version": code_version(),
    }
    return store.candidates / f"{candidate.name}-{json_digest(inputs)[:20]}"


def store_result(
    store: Store,
    problem: Problem,
    dataset: str,
    candidate: Candidate,
    rows: OutOfFoldRows,
) -> CandidateResult:
    """Make a result of out-of-fold probabilities, and store it.

    An equal result that another process stored in the meantime is accepted.

    Raises
    ------
    NotReproducible
        Where another process stored a different result of the same inputs.
    """
    encoded = rows.encode()
    result = _result(problem, candidate, dataset, rows, encoded)
    folder = _folder(store, problem, dataset, candidate)
    try:
        with staged_directory(folder) as staged:
            (staged / PROBABILITY_FILE).write_bytes(encoded)
            data = encode_document(result.document)
            name, signature = make_signature(store, folder / RESULT_FILE, sha256_bytes(data))
            (staged / name).write_bytes(signature)
            (staged / RESULT_FILE).write_bytes(data)
    except OSError:
        if not folder.is_dir():
            raise
        stored = load_result(store, problem, dataset, candidate)
        if stored.document.out_of_fold_sha256 != result.document.out_of_fold_sha256:
            raise NotReproducible(
                f"{candidate.title}, cross-validated twice at once on dataset {dataset[:12]}, "
                "gave two results."
            ) from None
    return result


def fold_losses(
    keys: Sequence[str], positive: np.ndarray, probability: np.ndarray, policy: SelectionPolicy
) -> np.ndarray:
    """Mean Brier loss of each fold, shape (repeats, folds)."""
    losses = (probability - positive) ** 2
    folds = assign_folds(keys, positive, policy)
    return np.array(
        [
            [row_losses[fold_of == fold].mean() for fold in range(policy.folds)]
            for row_losses, fold_of in zip(losses, folds, strict=True)
        ]
    )


def _result(
    problem: Problem,
    candidate: Candidate,
    dataset: str,
    rows: OutOfFoldRows,
    encoded: bytes,
) -> CandidateResult:
    """Compute a result from out-of-fold probabilities; `encoded` are their bytes."""
    from sklearn.metrics import roc_auc_score

    policy, positive = problem.selection, rows.positive
    losses = fold_losses(rows.keys, positive, rows.probability, policy)
    calls, nested = rows.probability > 0.5, rows.nested_call
    document = CandidateDocument(
        problem=problem.name,
        candidate=candidate.name,
        title=candidate.title,
        recipe=candidate.recipe,
        params=dict(candidate.params),
        seed=policy.seed,
        dataset=dataset,
        code_version=code_version(),
        folds=policy.folds,
        repeats=policy.repeats,
        rows=len(rows.keys),
        positive_rows=int(positive.sum()),
        rows_digest=labelled_rows_digest(rows.keys, positive),
        losses=tuple(tuple(float(loss) for loss in repeat) for repeat in losses),
        metrics={
            "brier": float(losses.mean()),
            "roc_auc": float(np.mean([roc_auc_score(positive, row) for row in rows.probability])),
            "sensitivity": float(calls[:, positive == 1].mean()),
            "specificity": float(1.0 - calls[:, positive == 0].mean()),
            "nested_sensitivity": float(nested[positive == 1].mean()),
            "nested_specificity": float(1.0 - nested[positive == 0].mean()),
        },
        out_of_fold_sha256=sha256_bytes(encoded),
    )
    return CandidateResult(document=document, **vars(rows))


def _equal_up_to_rounding(one: CandidateDocument, other: CandidateDocument) -> bool:
    """Whether two documents are equal but for the last bits of the means."""
    return (
        msgspec.structs.replace(one, losses=other.losses, metrics=other.metrics) == other
        and np.shape(one.losses) == np.shape(other.losses)
        and np.allclose(one.losses, other.losses, rtol=0.0, atol=1e-12)
        and one.metrics.keys() == other.metrics.keys()
        and all(abs(one.metrics[name] - other.metrics[name]) < 1e-12 for name in one.metrics)
    )
