"""Checks an upload of labelled rows and writes it to the landing folder unchanged.

The ingest step of the next retrain makes a batch of it, because it also compares the rows with
those of earlier batches. A batch is named after the digest of its file, so that the name is
already known here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
import numpy as np

from bc_pipeline.artifacts.declared_codes import read_declared_codes, write_declared_codes
from bc_pipeline.artifacts.files import sha256_file, write_atomic
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import Defect, LabelsRefused, RowsRejected, TransientError, counted
from bc_pipeline.label_agreement import require_agreement
from bc_pipeline.label_codes import format_label_codes
from bc_pipeline.labels import Labels
from bc_pipeline.schema import row_key
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.request_parsing.csv_upload import read_rows
from bc_pipeline.settings import Settings
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.file_conflicts import find_file_conflicts, find_stray_codes

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
        Rows without a defect. A retrain may still reject rows that contradict known ones, or
        that repeat others at another precision.
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
    rows = _Rows(model)
    notices: list[str] = []
    for block in read_rows(path, model.schema, labels, read_labels=True, row_limit=LABELLED_ROWS):
        notices = list(block.notices)
        rows.add(block)
    defects = rows.check(labels, declared=codes is not None)
    listed = [
        UnusableRow(rows.lines[row], defect.column, defect.reason)
        for row in sorted(defects)[:_MAX_LISTED]
        for defect in defects[row]
    ][:_MAX_LISTED]
    usable = len(rows) - len(defects)
    if not usable:
        first = listed[0]
        reason = Defect(first.reason, first.line, first.feature)
        raise RowsRejected(
            f"No row is usable ({counted(len(rows), 'row')}); {reason}.",
            "Nothing was landed.",
            read=len(rows),
        )
    counts = rows.count_labels(labels, defects)
    digest = sha256_file(path)
    landing = Store.of(settings, settings.service_problem).landing
    known = _write_once(landing, digest, path, model.labels, codes)
    return LandedRows(digest[:16], known, len(rows), usable, len(defects), counts, listed, notices)


class _Rows:
    """What the checks of the whole file need of each row."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._defects: dict[int, list[Defect]] = {}
        self._keys: list[str] = []
        self._ids: list[str] = []
        self._log_odds: list[np.ndarray] = []
        self._codes: list[int] = []
        self._coded: list[np.ndarray] = []
        self.lines: list[int] = []

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, block: Block) -> None:
        assert block.codes is not None, "read with labels"
        assert block.coded is not None, "read with labels"
        accepted = block.accepted
        start = len(self)
        self._defects |= {start + row: defects for row, defects in block.defects.items()}
        probability = self._model.predictor.positive(block.values[accepted])
        log_odds = np.full(len(block), np.nan)
        with np.errstate(divide="ignore"):
            log_odds[accepted] = np.log(probability) - np.log1p(-probability)
        self._log_odds.append(log_odds)
        self._keys += [row_key(values) for values in block.values.tolist()]
        self._ids += [name or "" for name in block.ids]
        self._codes += block.codes.tolist()
        self._coded.append(block.coded)
        self.lines += block.lines.tolist()

    def check(self, labels: Labels, *, declared: bool) -> dict[int, list[Defect]]:
        """Defects of the rows by position, those that show only in the whole file included.

        Raises
        ------
        LabelsRefused
            For labels that contradict the model, and codes that nothing gives a meaning.
        """
        defects, coded = self._defects, np.concatenate(self._coded)
        if not declared:
            stray = find_stray_codes(coded, self._valid(), labels.column)
            for row, more in stray.items():
                defects.setdefault(row, []).extend(more)
        valid = self._valid()
        codes = [self._codes[row] for row in valid]
        positive = np.array(codes, dtype=np.int64) == labels.positive.code
        log_odds = np.concatenate(self._log_odds)[valid]
        require_agreement(
            "the upload",
            labels,
            log_odds,
            positive,
            coded[valid],
            declared=declared,
            uploaded=True,
        )
        keys, ids = [self._keys[row] for row in valid], [self._ids[row] for row in valid]
        conflicts = find_file_conflicts(keys, ids, codes, labels.column)
        return defects | {valid[position]: defect for position, defect in conflicts.items()}

    def count_labels(self, labels: Labels, defects: Collection[int]) -> dict[str, int]:
        """The usable rows by label."""
        usable = [code for row, code in enumerate(self._codes) if row not in defects]
        return {
            label.name: usable.count(label.code) for label in (labels.positive, labels.negative)
        }

    def _valid(self) -> list[int]:
        return [row for row in range(len(self)) if row not in self._defects]


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
