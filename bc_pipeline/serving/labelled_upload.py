"""Checks an upload of labelled rows and writes it to the landing folder unchanged.

The ingest step of the next retrain makes a batch of it, because it also compares the rows with
those of earlier batches. A batch is named after the digest of its file, so that the name is
already known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from bc_pipeline.artifacts.declared_codes import read_declared_codes, write_declared_codes
from bc_pipeline.artifacts.files import sha256_file, write_atomic
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import Defect, LabelsRefused, RowsRejected, TransientError, counted
from bc_pipeline.label_agreement import require_agreement
from bc_pipeline.label_codes import format_label_codes
from bc_pipeline.schema import Labels
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.request_parsing.csv_upload import read_rows
from bc_pipeline.settings import Settings
from bc_pipeline.tables.blocks import Block

LABELLED_ROWS = 100_000
_MAX_LISTED = 200


class UnusableRow(msgspec.Struct):
    """One defect of a row, by its line in the file; the header is line 1."""

    line: int
    feature: str | None
    reason: str


class LandedRows(msgspec.Struct):
    """Result of an upload.

    Attributes
    ----------
    batch : str
        Name that the batch has once a retrain has ingested it.
    known : bool
        Whether the same file was landed before.
    usable : int
        Rows without a defect of their own. A retrain may still reject rows that
        contradict known ones.
    labels : dict of str to int
        Usable rows by label.
    defects : list of UnusableRow
        The first of them; the batch's quarantine file will have all.
    notices : list of str
        Columns that are passed over.
    """

    batch: str
    known: bool
    rows: int
    usable: int
    unusable: int
    labels: dict[str, int]
    defects: list[UnusableRow]
    notices: list[str]


def land(
    settings: Settings, model: LoadedModel, path: Path, codes: Mapping[str, str] | None = None
) -> LandedRows:
    """Check an upload completely and write it to the landing folder.

    Parameters
    ----------
    codes : mapping of str to str, optional
        What the label codes mean, if the request declares it; written beside the file.

    Raises
    ------
    FileRefused, SchemaMismatch
        Where the file as a whole cannot be read; nothing was landed.
    RowsRejected
        Where no row is usable; nothing was landed.
    LabelsRefused
        Where the labels contradict the model's predictions, or codes are not declared and agree
        with them too little.
    TransientError
        Where the landing folder cannot be written.
    """
    labels = model.labels.with_codes(codes) if codes else model.labels
    rows = usable = 0
    counts: Counter[str] = Counter()
    defects: list[UnusableRow] = []
    evidence = _Evidence(model)
    notices: list[str] = []
    schema = model.schema
    for block in read_rows(path, schema, labels, read_labels=True, row_limit=LABELLED_ROWS):
        assert block.codes is not None, "read with labels"
        accepted = block.accepted
        notices = list(block.notices)
        rows += len(block)
        usable += int(accepted.sum())
        positive = int((block.codes[accepted] == labels.positive.code).sum())
        counts[labels.positive.name] += positive
        counts[labels.negative.name] += int(accepted.sum()) - positive
        evidence.add(block)
        for index, row_defects in sorted(block.defects.items()):
            remaining = _MAX_LISTED - len(defects)
            line = int(block.lines[index])
            defects += [UnusableRow(line, d.column, d.reason) for d in row_defects[:remaining]]
    if not usable:
        first = defects[0]
        reason = Defect(first.reason, first.line, first.feature)
        raise RowsRejected(
            f"None of the {counted(rows, 'row')} is usable; {reason}.",
            "Nothing was landed.",
            read=rows,
        )
    evidence.require_agreement(labels, declared=codes is not None)
    digest = sha256_file(path)
    landing = Store.of(settings, settings.service_problem).landing
    known = _write_once(landing, digest, path, model.labels, codes)
    return LandedRows(
        digest[:16], known, rows, usable, rows - usable, dict(counts), defects, notices
    )


class _Evidence:
    """Labels of the usable rows, and the model's log-odds for them."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._log_odds: list[np.ndarray] = []
        self._positive: list[np.ndarray] = []
        self._coded: list[np.ndarray] = []

    def add(self, block: Block) -> None:
        assert block.codes is not None, "read with labels"
        assert block.coded is not None, "read with labels"
        accepted = block.accepted
        probability = self._model.predictor.positive(block.values[accepted])
        with np.errstate(divide="ignore"):
            self._log_odds.append(np.log(probability) - np.log1p(-probability))
        self._positive.append(block.codes[accepted] == self._model.labels.positive.code)
        self._coded.append(block.coded[accepted])

    def require_agreement(self, labels: Labels, *, declared: bool) -> None:
        """Refuse labels that contradict the model, and codes that nothing gives a meaning.

        Raises
        ------
        LabelsRefused
        """
        arrays = map(np.concatenate, (self._log_odds, self._positive, self._coded))
        require_agreement("the upload", labels, *arrays, declared=declared)


def _write_once(
    landing: Path, digest: str, path: Path, labels: Labels, codes: Mapping[str, str] | None
) -> bool:
    """Write the file to the landing folder; returns whether it was there before."""
    target = landing / f"api-{digest[:16]}.csv"
    known = target.exists()
    declared = read_declared_codes(target, labels) if codes else None
    if codes and declared and declared != codes:
        raise LabelsRefused(
            f"The same file was landed with the label codes {format_label_codes(declared)}.",
            "The declaration of other codes was not taken.",
        )
    try:
        if codes and not declared:
            # Written before the file, so that a run that finds the file also finds its codes.
            write_declared_codes(target, codes)
        if not known:
            write_atomic(target, path.read_bytes())
    except OSError as error:
        raise TransientError(
            f"The landing folder cannot be written: {error.strerror}.", "Nothing was landed."
        ) from None
    return known
