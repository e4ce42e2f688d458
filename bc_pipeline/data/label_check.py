"""The labels of a batch by itself, held against the class profile.

The expectation suite and the gate see a batch only together with all earlier rows, among which a
small one with swapped labels goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batches import BatchDocument
from bc_pipeline.data.labelled_file import FileRows
from bc_pipeline.data.rows import LabelledRows
from bc_pipeline.data.snapshot import load_dataset
from bc_pipeline.errors import LabelsRefused
from bc_pipeline.label_agreement import Agreement, measure_agreement, require_agreement
from bc_pipeline.label_codes import format_label_codes
from bc_pipeline.labels import Labels
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.class_profile import ClassProfile
from bc_pipeline.tables.file_conflicts import find_stray_codes

# Rows of each class from which the profile of a dataset is used.
_MINIMUM_ROWS = 30


def label_agreement(problem: Problem, rows: LabelledRows, profile: ClassProfile) -> Agreement:
    """How well the labels of some rows agree with a class profile."""
    positive = problem.labels.to_positive(rows.codes).astype(bool)
    return measure_agreement(profile.log_odds(rows.values), positive)


def profile_of_dataset(problem: Problem, store: Store, dataset: str) -> ClassProfile:
    """The class profile of a dataset; the problem's own where it has few rows of a class.

    Raises
    ------
    NotStored, ArtifactCorrupt, SchemaMismatch
    """
    rows = load_dataset(problem, store, dataset)
    positive = rows.positive.astype(bool)
    if min(positive.sum(), (~positive).sum()) < _MINIMUM_ROWS:
        return problem.class_profile
    return ClassProfile.of_rows(rows.values, positive)


def check_labels(
    source: str,
    read: FileRows,
    problem: Problem,
    labels: Labels,
    profile: ClassProfile | None,
    *,
    declared: bool,
) -> None:
    """Hold the valid rows of a file against the class profile.

    Among words, codes that nobody declared are defects of their rows.

    Raises
    ------
    LabelsRefused
    """
    if not declared:
        for row, defects in find_stray_codes(read.coded, read.valid, labels.column).items():
            read.defects.setdefault(row, []).extend(defects)
    valid = read.valid
    rows = read.rows.take(valid)
    require_agreement(
        source,
        labels,
        (profile or problem.class_profile).log_odds(rows.values),
        labels.to_positive(rows.codes).astype(bool),
        read.coded[valid],
        declared=declared,
    )


def require_same_codes(
    known: BatchDocument, declared: Mapping[str, str] | None, source: str
) -> None:
    """Refuse other codes for a file that is a batch already.

    Raises
    ------
    LabelsRefused
    """
    if declared and known.label_codes and declared != known.label_codes:
        raise LabelsRefused(
            f"{source} is batch {known.batch}, which was made with the label codes "
            f"{format_label_codes(known.label_codes)}.",
            "The declaration of other codes was not taken.",
            source=source,
        )
