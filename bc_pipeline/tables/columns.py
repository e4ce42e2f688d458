"""Which column of a table is what: features, id, label, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bc_pipeline.errors import Defect, SchemaMismatch
from bc_pipeline.schema import ID_COLUMN, FeatureSchema, Labels, fold
from bc_pipeline.tables.blocks import Dialect
from bc_pipeline.tables.lines import refusal
from bc_pipeline.tables.numbers import is_number

MAX_COLUMNS = 1000
_SHOWN_NAME = 60


@dataclass(frozen=True)
class Columns:
    """Positions of the columns of a table, from 0.

    Attributes
    ----------
    width : int
        Number of columns in a row.
    features : tuple of int
        In schema order.
    identifier, label : int or None
        None where there is none, or it is not read.
    unnamed : int or None
        A last column without a name, which must be empty.
    dialect : Dialect
    """

    width: int
    features: tuple[int, ...]
    identifier: int | None
    label: int | None
    unnamed: int | None
    dialect: Dialect


def is_label(name: str, labels: Labels) -> bool:
    """Whether a column name is one of the label's names."""
    return fold(name) in {fold(alias) for alias in (labels.column, *labels.aliases)}


def known_names(names: Sequence[str], schema: FeatureSchema, labels: Labels | None) -> int:
    """How many of the names mean something to the schema."""
    return sum(
        schema.canonical(name) is not None
        or schema.is_id(name)
        or (labels is not None and is_label(name, labels))
        for name in names
    )


def named_columns(
    names: Sequence[str],
    schema: FeatureSchema,
    labels: Labels | None,
    *,
    read_labels: bool,
    source: str,
) -> Columns:
    """Find the columns by their names.

    Raises
    ------
    SchemaMismatch
        Listing every name that is unknown, missing or given twice.
    """
    if len(names) > MAX_COLUMNS:
        raise refusal(source, f"has {len(names)} columns; {MAX_COLUMNS} are the most that is read")
    if known_names(names, schema, labels) == 0:
        # It may be no header but a row: what stands there is not told.
        raise _mismatch(
            source, [Defect("names none of the columns", line=1), *schema.name_defects(())]
        )
    identifiers: list[int] = []
    label_columns: list[int] = []
    features: dict[str, int] = {}
    spelt: list[str] = []
    unnamed: int | None = None
    defects: list[Defect] = []
    for position, name in enumerate(names):
        if schema.is_id(name):
            identifiers.append(position)
        elif labels is not None and is_label(name, labels):
            label_columns.append(position)
        elif not name and position == len(names) - 1 and position:
            unnamed = position
        elif not name:
            defects.append(Defect(f"column {position + 1} has no name; is it a row index?"))
        else:
            spelt.append(_shown(name, position))
            features[schema.canonical(name) or ""] = position
    if len(identifiers) > 1:
        defects.append(Defect("is given twice", column=ID_COLUMN))
    if labels is not None and len(label_columns) > 1:
        defects.append(Defect("is given twice", column=labels.column))
    if labels is not None and read_labels and not label_columns:
        defects.append(Defect("is missing", column=labels.column))
    defects += schema.name_defects(spelt)
    if defects:
        raise _mismatch(source, defects)
    return Columns(
        width=len(names),
        features=tuple(features[name] for name in schema.names),
        identifier=identifiers[0] if identifiers else None,
        label=label_columns[0] if label_columns and read_labels else None,
        unnamed=unnamed,
        dialect=_dialect(spelt, schema),
    )


def looks_headerless(
    cells: Sequence[str], schema: FeatureSchema, labels: Labels | None = None
) -> bool:
    """Whether a first line holds a row instead of names: it knows none, most are numbers."""
    numbers = sum(is_number(cell) for cell in cells)
    return 2 * numbers >= len(cells) and known_names(cells, schema, labels) == 0


def headerless_columns(
    cells: Sequence[str],
    schema: FeatureSchema,
    labels: Labels | None,
    *,
    read_labels: bool,
    source: str,
) -> Columns:
    """Find the columns of a file without header by their number.

    With k features: k values; k values and the label; or id, label and k values, as UCI's
    ``wdbc.data`` has it. A comma may end the line of the last one.

    Raises
    ------
    SchemaMismatch
        For any other number, or where the label is read and cannot be there.
    """
    count, width = len(schema.features), len(cells)
    unnamed = width - 1 if width == count + 3 and not cells[-1].strip() else None
    named = width if unnamed is None else unnamed
    with_id = named == count + 2
    label = 1 if with_id else count
    defects = []
    if named not in {count, count + 1, count + 2}:
        # The cells themselves may be a patient's: only their number is told.
        defects.append(
            Defect(
                f"has no header, and its {width} columns are neither {count} values, nor "
                f"{count} values and a label, nor an id, a label and {count} values",
                line=1,
            )
        )
    elif read_labels and labels is not None and named == count:
        defects.append(Defect("is missing", column=labels.column))
    if defects:
        raise _mismatch(source, defects)
    first = 2 if with_id else 0
    return Columns(
        width=width,
        features=tuple(range(first, first + count)),
        identifier=0 if with_id else None,
        label=label if read_labels and labels is not None else None,
        unnamed=unnamed,
        dialect="headerless",
    )


def _mismatch(source: str, defects: Sequence[Defect]) -> SchemaMismatch:
    return SchemaMismatch(
        f"{source} does not have the expected columns.", source=source, defects=tuple(defects)
    )


def _shown(name: str, position: int) -> str:
    """A column's name as messages may tell it: not a number, which may be a value."""
    if is_number(name):
        return f"(column {position + 1})"
    if len(name) > _SHOWN_NAME or not name.isprintable():
        return "".join(char if char.isprintable() else "?" for char in name[:_SHOWN_NAME]) + "..."
    return name


def _dialect(names: Sequence[str], schema: FeatureSchema) -> Dialect:
    """Who names columns like this, for the record only."""
    canonical = {fold(name) for name in schema.names}
    own = [fold(name) in canonical for name in names]
    if all(name in schema.names for name in names):
        return "canonical"
    if all(own):
        return "sklearn"
    if any(own):
        return "mixed"
    return "uci" if all(name[-1].isdigit() for name in names) else "kaggle"
