"""The columns of the scores, the table of rejected rows, and the names of rows for validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import compress
from pathlib import Path
from typing import Any, overload

import numpy as np

from bc_pipeline.artifacts.files import staged_file
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.predictors import Predictor
from bc_pipeline.schema import row_key
from bc_pipeline.tables.arrow_arrays import chosen_texts, number_array, text_array
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.text_column import TextColumn
from bc_pipeline.tables.writer import DEFECT_COLUMNS, Kind, TableWriter, defect_columns

Validate = Callable[[Sequence[str], np.ndarray], None]
"""Called as ``validate(names, values)`` with the accepted rows of each block that has some."""


class RowNames(Sequence[str]):
    """Names of accepted rows: a row's id or, where it has none, its line; made where looked at."""

    def __init__(self, block: Block, accepted: np.ndarray) -> None:
        self._block, self._accepted = block, accepted

    def __len__(self) -> int:
        return len(self._accepted)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(self)[index]
        row = self._accepted[index]
        # Two rows of equal values are not a repeated id.
        return self._block.ids[row] or f"line {self._block.lines[row]}"


OUTSIDE_RANGE = "outside_training_range"


class RangeCheck:
    """Finds the values outside the range of the rows that a model was trained on.

    Attributes
    ----------
    rows : int
        Number of rows with such a value, so far.
    """

    def __init__(self, manifest: Manifest) -> None:
        names = manifest.feature_schema.names
        ranges = np.array([manifest.training_range[name] for name in names], dtype=np.float64)
        self.rows = 0
        self._names = names
        self._low, self._high = ranges.T
        self._counts = np.zeros(len(names), dtype=np.int64)

    def find(self, values: np.ndarray) -> Any:
        """For each row the names of these features, separated by ``"; "``; null where none is.

        Parameters
        ----------
        values : array of float64, shape (n, k)

        Returns
        -------
        pyarrow.StringArray, shape (n,)
        """
        import pyarrow as pa

        beyond = np.zeros(len(self._names), dtype=bool)
        if len(values):
            beyond = (values.min(axis=0) < self._low) | (values.max(axis=0) > self._high)
        columns = np.flatnonzero(beyond)
        # Only these columns have such a value.
        outside = [
            (values[:, column] < self._low[column]) | (values[:, column] > self._high[column])
            for column in columns
        ]
        if not outside:
            return pa.nulls(len(values), pa.string())
        table = np.array(outside)
        marked = np.flatnonzero(table.any(axis=0))
        self.rows += len(marked)
        self._counts[columns] += np.count_nonzero(table, axis=1)
        # Many rows are outside in the same features.
        names = [self._names[column] for column in columns]
        packed = np.packbits(table[:, marked], axis=0).T
        sets = {row.tobytes(): place for place, row in zip(marked.tolist(), packed, strict=True)}
        number = {marks: position for position, marks in enumerate(sets)}
        index = np.full(len(values), -1)
        index[marked] = [number[row.tobytes()] for row in packed]
        texts = ["; ".join(compress(names, table[:, place])) for place in sets.values()]
        return chosen_texts(texts, index)

    @property
    def by_feature(self) -> dict[str, int]:
        """Number of such values of each feature that has any."""
        counts = zip(self._names, self._counts.tolist(), strict=True)
        return {name: count for name, count in counts if count}


class RowScorer:
    """Computes the output's columns for accepted rows, and counts them."""

    def __init__(self, predictor: Predictor) -> None:
        self.rows = self.positive = 0
        self.version = predictor.manifest.version
        self.range_check = RangeCheck(predictor.manifest)
        self._predictor = predictor
        self._labels = predictor.manifest.label_set
        self._positive_column = f"probability_{self._labels.positive.name}"
        self.columns: dict[str, Kind] = {
            "id": "text",
            "prediction": "integer",
            "label": "text",
            "probability": "number",
            self._positive_column: "number",
            "model_version": "text",
            OUTSIDE_RANGE: "text",
        }

    def score(self, block: Block, accepted: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        """The columns of some rows of a block.

        Parameters
        ----------
        accepted : array of int, shape (m,)
            Positions in the block.
        values : array of float64, shape (m, n_features)

        Raises
        ------
        DegenerateModel
            Where the model does not return one probability per row.
        """
        import pyarrow as pa

        manifest, labels = self._predictor.manifest, self._labels
        probability = self._predictor.positive(values) if len(values) else np.empty(0)
        called = manifest.decision_rule.are_positive(probability, len(values))
        self.rows += len(values)
        self.positive += int(called.sum())
        version = text_array([manifest.version])[0]
        return {
            "id": _ids(block, accepted, values),
            "prediction": np.where(called, labels.code(True), labels.code(False)),
            "label": chosen_texts([labels.name(False), labels.name(True)], called.astype(np.int8)),
            "probability": np.where(called, probability, 1 - probability),
            self._positive_column: probability,
            "model_version": pa.repeat(version, len(values)),
            OUTSIDE_RANGE: self.range_check.find(values),
        }


def _ids(block: Block, accepted: np.ndarray, values: np.ndarray) -> Any:
    """Ids of accepted rows, `row_key` where a row has none: pyarrow.StringArray, shape (m,)."""
    ids = TextColumn.of(block.ids).array
    if len(accepted) < len(block):
        ids = ids.take(number_array(accepted))
    if not ids.null_count:
        return ids
    rows = zip(ids.to_pylist(), values.tolist(), strict=True)
    return text_array([name or row_key(row) for name, row in rows])


class RejectsWriter(ExitStack):
    """Writes the defects of rows that are not scored; makes no file where there are none.

    The file is published when the block ends without an error.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self._path = path
        self._writer: TableWriter | None = None

    def add(self, block: Block) -> None:
        if not block.defects:
            return
        if self._writer is None:
            staged = self.enter_context(staged_file(self._path))
            self._writer = self.enter_context(TableWriter(staged, DEFECT_COLUMNS, "csv"))
        listed = [
            (block.ids[row], defect)
            for row in sorted(block.defects)
            for defect in block.defects[row]
        ]
        self.rows += len(block.defects)
        self.reasons.update(defect.kind for _, defect in listed)
        self._writer.write(defect_columns(listed))
