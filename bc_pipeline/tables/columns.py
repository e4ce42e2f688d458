"""Finds the columns of a table: features, id and label; any other is a defect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bc_pipeline.errors import Defect, SchemaMismatch, counted
from bc_pipeline.labels import Labels
from bc_pipeline.names import ID_COLUMN, MISSING, fold, is_number, match_names
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.tables.lines import refusal

Dialect = Literal["canonical", "sklearn", "kaggle", "uci", "mixed", "headerless", "parquet"]
# Unknown names that are compared with those of the features, which takes time.
_EXAMINED = 60
# Names of features that a remedy gives.
_NAMES_SHOWN = 3
# The names of columns without one: in pandas, Arrow (an index of pandas), R and readr.
_SPARE = re.compile(
    r"(unnamed: ?[0-9]+(\.[0-9]+)?|__index_level_[0-9]+__|level_[0-9]+|index|x(\.[0-9]+)?"
    r"|\.\.\.[0-9]+|row[._ ]?names?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Columns:
    """Positions of the columns of a table, from 0.

    Attributes
    ----------
    width : int
        Number of columns in a row.
    features : dict of int to int
        Position of each feature, by its number in the schema; without optional ones that the
        table does not have.
    identifier, label : int or None
        None where the table has none, or it is not read.
    spare : tuple of int
        Columns without a name of their own, as exports add them: each must be empty or number the
        rows, and is passed over.
    numbered : tuple of int
        Those of them that number the rows.
    dialect : Dialect
        How the file names its columns.
    metadata, unread_metadata : dict of str to int
        Columns of metadata by name; they are read together with labels, else passed over.
    """

    width: int
    features: dict[int, int]
    identifier: int | None
    label: int | None
    spare: tuple[int, ...]
    dialect: Dialect
    numbered: tuple[int, ...] = ()
    metadata: dict[str, int] = field(default_factory=dict)
    unread_metadata: dict[str, int] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[int, ...]:
        """The columns that are read as text."""
        named = (self.identifier, self.label)
        positions = (*named, *self.spare, *self.metadata.values())
        return tuple(position for position in positions if position is not None)


@dataclass(frozen=True)
class ColumnFinder:
    """Finds the columns of a table by the names or by the number of its columns.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    schema : FeatureSchema
    labels : Labels or None
        None where the problem has none.
    read_labels : bool
        Whether the label column is required and read; if not, it is optional and ignored.
    """

    source: str
    schema: FeatureSchema
    labels: Labels | None
    read_labels: bool

    def knows_any(self, names: Sequence[str]) -> bool:
        """Whether any of the names is a feature, the id or the label."""
        return any(self._column_of(name) is not None for name in names)

    def _column_of(self, name: str) -> str | None:
        """The feature, id, label or metadata that a name means; None if it means none."""
        labels = self.labels
        if self.schema.is_id(name):
            return ID_COLUMN
        if labels and labels.is_column(name):
            return labels.column
        if feature := self.schema.canonical(name):
            return feature
        metadata = self.schema.metadata_column(name)
        return metadata.name if metadata else None

    def find_by_name(self, names: Sequence[str]) -> Columns:
        """Find the columns by their names.

        Raises
        ------
        SchemaMismatch
            Listing every name that is unknown, missing or given twice.
        """
        if len(names) > (limit := self.schema.column_limit):
            raise refusal(self.source, f"has {len(names)} columns; {limit} is the maximum")
        if not self.knows_any(names):
            # It may be a row instead of a header: its content must not appear in a message.
            missing = self.schema.missing_names(())
            raise self._mismatch(Defect("names none of the columns", line=1), *missing)
        match = match_names(names, self._column_of)
        label = match.positions.get(self.labels.column) if self.labels else None
        spare = tuple(position for position, name in enumerate(names) if is_spare(name))
        defects = []
        if self.labels and self.read_labels and label is None:
            defects.append(Defect(MISSING, column=self.labels.column))
        unknown = [
            position
            for position, name in enumerate(names)
            if position not in spare and self._column_of(name) is None
        ]
        defects += [self._unknown(names[position], position) for position in unknown[:_EXAMINED]]
        if (more := len(unknown) - _EXAMINED) > 0:
            reason = counted(more, "more column is no feature", "more columns are no features")
            defects.append(Defect(reason))
        defects += [*match.repeated.values(), *self.schema.missing_names(match.positions)]
        if defects:
            raise self._mismatch(*defects)
        features = {
            number: match.positions[name]
            for number, name in enumerate(self.schema.names)
            if name in match.positions
        }
        metadata = {
            column.name: match.positions[column.name]
            for column in self.schema.metadata
            if column.name in match.positions
        }
        return Columns(
            width=len(names),
            features=features,
            identifier=match.positions.get(ID_COLUMN),
            label=label if self.read_labels else None,
            spare=spare,
            dialect=_dialect([names[position] for position in features.values()], self.schema),
            metadata=metadata if self.read_labels else {},
            unread_metadata={} if self.read_labels else metadata,
        )

    def header_line(self, lines: Sequence[str]) -> int | None:
        """Index of the first of some lines that names most of the features; None without one."""
        for index, line in enumerate(lines):
            names = [cell.strip().strip('"') for cell in line.split(",")]
            known = {self.schema.canonical(name) for name in names} - {None}
            if 2 * len(known) > len(self.schema.features):
                return index
        return None

    def looks_headerless(self, cells: Sequence[str]) -> bool:
        """Whether a first line is a row and no header: no known name, and mostly numbers."""
        return 2 * sum(map(is_number, cells)) >= len(cells) and not self.knows_any(cells)

    def find_by_number(self, cells: Sequence[str]) -> Columns:
        """Find the columns of a file without header by how many there are.

        With k features: k values; k values and the label; or id, label and k values, as in
        UCI's data file, whose lines may end in a comma.

        Parameters
        ----------
        cells : sequence of str
            Of the first row.

        Raises
        ------
        SchemaMismatch
            For any other number, or where the label is read and there is none.
        """
        count, width = len(self.schema.features), len(cells)
        spare = (width - 1,) if width == count + 3 and not cells[-1].strip() else ()
        named = width - len(spare)
        if named not in {count, count + 1, count + 2}:
            # The cells may be a patient's: the message says only how many there are.
            reason = (
                f"has no header, and {counted(width, 'column')}: not {count} values, nor "
                f"{count} values and a label, nor an id, a label and {count} values"
            )
            raise self._mismatch(Defect(reason, line=1))
        if self.read_labels and self.labels and named == count:
            raise self._mismatch(Defect(MISSING, column=self.labels.column))
        with_id = named == count + 2
        first = 2 if with_id else 0
        label = 1 if with_id else count
        return Columns(
            width=width,
            features=dict(enumerate(range(first, first + count))),
            identifier=0 if with_id else None,
            label=label if self.read_labels and self.labels else None,
            spare=spare,
            dialect="headerless",
        )

    def _unknown(self, name: str, position: int) -> Defect:
        """The defect of a column that is none of the table's."""
        hint = self.schema.suggest(name)
        if hint is None and not self.schema.may_be_shown(name):
            # It may be a value: a file may have no header, or have lost the ends of its lines.
            return Defect("is not a feature", column=f"(column {position + 1})")
        return self.schema.unknown_name(name, hint)

    def _mismatch(self, *defects: Defect) -> SchemaMismatch:
        missing = {defect.column for defect in defects if defect.reason == MISSING}
        remedies = []
        if self.labels and self.labels.column in missing:
            remedies.append("Rows without labels can be scored, and not ingested.")
        names = self.schema.names
        if len(missing.intersection(names)) > 1:
            first, others = ", ".join(names[:_NAMES_SHOWN]), len(names) > _NAMES_SHOWN
            remedies.append(f"Expected: {first}{f' and so on, to {names[-1]}' if others else ''}.")
        return SchemaMismatch(
            f"{self.source} does not have the expected columns.",
            " ".join(remedies),
            source=self.source,
            defects=defects,
        )


def is_spare(name: str) -> bool:
    """Whether a name is one that pandas, R or Arrow gives to a column without a name."""
    return _SPARE.fullmatch(name.strip()) is not None


def _dialect(names: Sequence[str], schema: FeatureSchema) -> Dialect:
    """Whose naming convention the names follow; only reported."""
    canonical = {fold(name) for name in schema.names}
    known = [fold(name) in canonical for name in names]
    if all(name in schema.names for name in names):
        return "canonical"
    if all(known):
        return "sklearn"
    if any(known):
        return "mixed"
    return "uci" if all(name[-1].isdigit() for name in names) else "kaggle"
