"""A candidate's cross-validation: what it says, and how it stands on the volume."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bc_pipeline.artifacts.evidence import Record, labelled_rows_digest
from bc_pipeline.artifacts.files import (
    encode_record,
    read_record,
    sha256_bytes,
    staged_directory,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.code import code_version
from bc_pipeline.errors import ArtifactCorrupt, NotReproducible, NotStored
from bc_pipeline.problems.base import Candidate, Problem, SelectionPolicy
from bc_pipeline.training.folds import assign_folds

RESULT_FILE = "result.json"
PROBABILITY_FILE = "out_of_fold.parquet"


class CandidateRecord(Record, frozen=True, kw_only=True):
    """Format of a candidate's ``result.json``.

    Attributes
    ----------
    seed : int
        Of the folds and of every fit.
    losses : tuple of tuple of float
        Mean Brier loss of each fold, by repeat: what the corrected t-test compares.
    metrics : dict of str to float
        ``brier roc_auc sensitivity specificity``: means over the repeats; the calls are
        those at .5.
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


@dataclass(frozen=True, eq=False)
class CandidateResult:
    """A candidate's record and its out-of-fold probabilities.

    Attributes
    ----------
    record : CandidateRecord
    keys : tuple of str, length n
        Row keys in ascending order; the arrays follow it.
    positive : array of int8, shape (n,)
    probability : array of float64, shape (repeats, n)
        Of malignant, each from the one fit of its repeat that had not seen the row.
    """

    record: CandidateRecord
    keys: tuple[str, ...]
    positive: np.ndarray
    probability: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        """Mean Brier loss of each fold, shape (repeats, folds)."""
        return np.asarray(self.record.losses, dtype=np.float64)

    @property
    def pooled(self) -> np.ndarray:
        """Mean over the repeats of each row's out-of-fold probability, shape (n,)."""
        return np.asarray(self.probability.mean(axis=0))


def load_result(
    store: Store, problem: Problem, dataset: str, candidate: Candidate
) -> CandidateResult:
    """Read a stored result and verify it against its digests, its identity and itself.

    Raises
    ------
    NotStored
        Where this code has not cross-validated the candidate on the dataset.
    ArtifactCorrupt
    """
    folder = _folder(store, problem, dataset, candidate)
    if not folder.is_dir():
        raise NotStored(
            f"{candidate.title} has not been cross-validated on dataset {dataset[:12]} "
            f"by code {code_version()}.",
            f"Run the train step for {candidate.name} first.",
        )
    return _read(folder, problem, dataset, candidate)


def list_records(store: Store) -> list[CandidateRecord]:
    """Records of every stored result, for display: they are not checked any further.

    Raises
    ------
    ArtifactCorrupt
        Where a file is not a record.
    """
    return [
        read_record(path, CandidateRecord)
        for path in sorted(store.candidates.glob(f"[!.]*/{RESULT_FILE}"))
    ]


def _folder(store: Store, problem: Problem, dataset: str, candidate: Candidate) -> Path:
    """The folder of a result, named after all that goes into it."""
    inputs = {
        "problem": problem.name,
        "dataset": dataset,
        "split": asdict(problem.split),
        "selection": asdict(problem.selection),
        "recipe": candidate.recipe,
        "params": dict(candidate.params),
        "code_version": code_version(),
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return store.candidates / f"{candidate.name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def store_result(
    store: Store,
    problem: Problem,
    dataset: str,
    candidate: Candidate,
    keys: tuple[str, ...],
    positive: np.ndarray,
    probability: np.ndarray,
) -> CandidateResult:
    """Make the result that follows from out-of-fold probabilities, and store it.

    An equal result that another process stored meanwhile stands.

    Parameters
    ----------
    keys : tuple of str, length n
        In ascending order.
    positive : array of int8, shape (n,)
    probability : array of float64, shape (repeats, n)

    Raises
    ------
    NotReproducible
        Where another process stored a different result of the same inputs.
    """
    encoded = _encode(keys, positive, probability)
    result = _result(problem, candidate, dataset, keys, positive, probability, encoded)
    folder = _folder(store, problem, dataset, candidate)
    try:
        with staged_directory(folder) as staged:
            (staged / PROBABILITY_FILE).write_bytes(encoded)
            (staged / RESULT_FILE).write_bytes(encode_record(result.record))
    except OSError:
        if not folder.is_dir():
            raise
        stored = _read(folder, problem, dataset, candidate)
        if stored.record.out_of_fold_sha256 != result.record.out_of_fold_sha256:
            raise NotReproducible(
                f"{candidate.title}, cross-validated twice at once on dataset {dataset[:12]}, "
                "gave two results."
            ) from None
    return result


def _fold_losses(
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
    keys: tuple[str, ...],
    positive: np.ndarray,
    probability: np.ndarray,
    encoded: bytes,
) -> CandidateResult:
    """The result that follows from out-of-fold probabilities; `encoded` are their bytes."""
    from sklearn.metrics import roc_auc_score

    policy = problem.selection
    losses = _fold_losses(keys, positive, probability, policy)
    calls = probability > 0.5
    record = CandidateRecord(
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
        rows=len(keys),
        positive_rows=int(positive.sum()),
        rows_digest=labelled_rows_digest(keys, positive),
        losses=tuple(tuple(float(loss) for loss in repeat) for repeat in losses),
        metrics={
            "brier": float(losses.mean()),
            "roc_auc": float(np.mean([roc_auc_score(positive, row) for row in probability])),
            "sensitivity": float(calls[:, positive == 1].mean()),
            "specificity": float(1.0 - calls[:, positive == 0].mean()),
        },
        out_of_fold_sha256=sha256_bytes(encoded),
    )
    return CandidateResult(record, keys, positive, probability)


def _encode(keys: Sequence[str], positive: np.ndarray, probability: np.ndarray) -> bytes:
    """Parquet bytes: ``key``, ``positive`` and one column of probabilities per repeat."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {"key": pa.array(keys, pa.string()), "positive": pa.array(positive, pa.int8())}
        | {f"repeat_{number}": row for number, row in enumerate(probability)}
    )
    stream = io.BytesIO()
    pq.write_table(table, stream, use_dictionary=False)
    return stream.getvalue()


def _decode(data: bytes) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    repeats = range(table.num_columns - 2)
    probability = np.stack([table[f"repeat_{number}"].to_numpy() for number in repeats])
    return tuple(table["key"].to_pylist()), table["positive"].to_numpy(), probability


def _read(folder: Path, problem: Problem, dataset: str, candidate: Candidate) -> CandidateResult:
    stored = read_record(folder / RESULT_FILE, CandidateRecord)
    path = folder / PROBABILITY_FILE

    def corrupt(fault: str) -> ArtifactCorrupt:
        return ArtifactCorrupt(
            f"The stored cross-validation of {candidate.title} {fault}.",
            f"Delete {folder}; the next run computes it anew.",
            path=str(path),
        )

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise corrupt("has lost its probabilities") from None
    if sha256_bytes(data) != stored.out_of_fold_sha256:
        raise corrupt("differs from its digest")
    keys, positive, probability = _decode(data)
    if len(probability) != problem.selection.repeats:
        raise corrupt("has another number of repeats")
    result = _result(problem, candidate, dataset, keys, positive, probability, data)
    # No digest covers the record itself: all that it says must follow from what it is about.
    if not _agree(stored, result.record):
        raise corrupt("does not follow from its probabilities and inputs")
    return result


def _agree(one: CandidateRecord, other: CandidateRecord) -> bool:
    """Whether two records say the same, but for the last bits of the means."""
    return (
        msgspec.structs.replace(one, losses=other.losses, metrics=other.metrics) == other
        and np.shape(one.losses) == np.shape(other.losses)
        and np.allclose(one.losses, other.losses, rtol=0.0, atol=1e-12)
        and one.metrics.keys() == other.metrics.keys()
        and all(abs(one.metrics[name] - other.metrics[name]) < 1e-12 for name in one.metrics)
    )
