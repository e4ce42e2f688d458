"""How runs end, by name: on a run's page in Airflow, in commands, API and audit log."""

from __future__ import annotations

from enum import StrEnum

from bc_pipeline import errors


class Conclusion(StrEnum):
    """The named result of a run of retraining, of an approval, or of batch scoring."""

    PROMOTED = "promoted"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVAL_REFUSED = "approval_refused"
    APPROVAL_EXPIRED = "approval_expired"
    SUPERSEDED = "superseded"
    GATE_FAILED = "gate_failed"
    TIE = "tie"
    NOTHING_NEW = "nothing_new"
    VERDICT_ONLY = "verdict_only"
    ALREADY_RELEASED = "already_released"
    NOT_RELEASABLE = "not_releasable"
    TOO_FEW_ROWS = "too_few_rows"
    DATA_UNFIT = "data_unfit"
    FILE_REFUSED = "file_refused"
    FAILED = "failed"
    SCORED = "scored"
    NO_CHAMPION = "no_champion"
    NOTHING_TO_SCORE = "nothing_to_score"

    @property
    def text(self) -> str:
        """The name in words."""
        return _TEXTS[self]

    @property
    def exit_code(self) -> int:
        """Of a command that ends so; a command that fails has the exit code of its error."""
        return _EXIT_CODES.get(self, 0)


_TEXTS = {
    Conclusion.PROMOTED: "trained and promoted",
    Conclusion.AWAITING_APPROVAL: "passed the gate, awaits approval",
    Conclusion.APPROVAL_REFUSED: "a person refused it",
    Conclusion.APPROVAL_EXPIRED: "nobody decided in time",
    Conclusion.SUPERSEDED: "superseded by another run",
    Conclusion.GATE_FAILED: "the gate kept the champion",
    Conclusion.TIE: "a tie: the champion stays",
    Conclusion.NOTHING_NEW: "nothing new to train on",
    Conclusion.VERDICT_ONLY: "verdict only",
    Conclusion.ALREADY_RELEASED: "is or was the champion already",
    Conclusion.NOT_RELEASABLE: "passed the gate, may not be released",
    Conclusion.TOO_FEW_ROWS: "too few rows",
    Conclusion.DATA_UNFIT: "the data cannot be used",
    Conclusion.FILE_REFUSED: "a file cannot be read",
    Conclusion.FAILED: "failed",
    Conclusion.SCORED: "rows were scored",
    Conclusion.NO_CHAMPION: "no champion yet",
    Conclusion.NOTHING_TO_SCORE: "nothing to score",
}
_EXIT_CODES = {
    Conclusion.GATE_FAILED: 10,
    Conclusion.TIE: 10,
    Conclusion.NOTHING_NEW: 13,
    Conclusion.AWAITING_APPROVAL: 14,
    Conclusion.NOT_RELEASABLE: 10,
}
# The first class that an error belongs to.
_OF_ERRORS: tuple[tuple[type[errors.PipelineError], Conclusion], ...] = (
    (errors.NothingAsOf, Conclusion.TOO_FEW_ROWS),
    (errors.RowsRejected, Conclusion.TOO_FEW_ROWS),
    (errors.TooFewRows, Conclusion.TOO_FEW_ROWS),
    (errors.FileRefused, Conclusion.FILE_REFUSED),
    (errors.DataError, Conclusion.DATA_UNFIT),
    (errors.NoChampion, Conclusion.NO_CHAMPION),
    (errors.VersionConflict, Conclusion.SUPERSEDED),
    (errors.NotReleasable, Conclusion.NOT_RELEASABLE),
)


def approval_run_id(run_id: str) -> str:
    """Id of the run of the approval DAG in which a person decides about a retrain's model."""
    return f"approval__{run_id}"


def conclusion_of(error: Exception) -> Conclusion:
    """How a run ends that fails with an error."""
    return next(
        (conclusion for kind, conclusion in _OF_ERRORS if isinstance(error, kind)),
        Conclusion.FAILED,
    )
