"""Parses the body of a request into one sample; every defect is named, and no value is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bc_pipeline.errors import Defect, counted
from bc_pipeline.labels import Labels
from bc_pipeline.names import ID_COLUMN, MAX_ID_LENGTH, NameMatch, is_sample_id
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.request_parsing.defects import schema_mismatch
from bc_pipeline.serving.request_parsing.fast_record import FastRecordParser, Sample
from bc_pipeline.serving.request_parsing.json_members import (
    Members,
    match_members,
    parse_json,
    whole_number_texts,
)
from bc_pipeline.tables.columns import is_spare

FEATURES_KEY = "features"
INVALID_ID = f"must be a whole number, or a string of 1 to {MAX_ID_LENGTH} characters that print"
# Whole numbers below are exact as floats.
_EXACT = 2.0**53
# Bounds the time that a body can take.
_MAX_UNKNOWN_LISTED = 60


class RefusedRecord(NamedTuple):
    """Defects of a record, and its id where that has none."""

    defects: Sequence[Defect]
    id: str | None = None


class RecordParser:
    """Parses records against one feature schema.

    As in tables, a member with the true label or with metadata is ignored, and so is one that is
    named like a column without a name and holds nothing or a whole number.

    Parameters
    ----------
    labels : Labels or None
        Of the problem.

    Attributes
    ----------
    fast : FastRecordParser
        For records that are certainly valid.
    """

    def __init__(self, schema: FeatureSchema, labels: Labels | None = None) -> None:
        self._schema = schema
        self._passed_over = labels.is_column if labels else (lambda name: False)
        self._index = {name: index for index, name in enumerate(schema.names)}
        # Usual spellings; any other is folded by the schema.
        self._features = {
            spelling: feature.name
            for feature in schema.features
            for spelling in (feature.name, feature.name.replace("_", " "), *feature.aliases)
        }
        self.fast = FastRecordParser(schema)

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self._schema.names)

    def read(self, body: bytes) -> Sample:
        """Parse one sample.

        Accepted are an object of named features, ``{"features": {name: number}}`` and
        ``{"features": [numbers in schema order]}``, each with an optional ``"id"``.

        Raises
        ------
        BodyUnreadable
        SchemaMismatch
            Listing every defect.
        """
        record = self.parse(body)
        if isinstance(record, RefusedRecord):
            raise schema_mismatch(record.defects)
        return record

    def parse(self, body: bytes) -> Sample | RefusedRecord:
        """Parse one sample, as `read`, but return its defects.

        Raises
        ------
        BodyUnreadable
        """
        return self.fast.parse(body) or self.check(parse_json(body), body)

    def check(self, content: Any, body: bytes | None = None) -> Sample | RefusedRecord:
        """Check content that `parse_json` returned, and find all its defects.

        Parameters
        ----------
        body : bytes or None
            Its text, if available: an id that is a whole number is read from it, with all digits.
        """
        if not isinstance(content, Members):
            return RefusedRecord([Defect("the record must be a JSON object")])
        if len(content) > self._schema.column_limit:
            return RefusedRecord([_too_many(content)])
        content = Members(pair for pair in content if not self._is_passed_over(*pair))
        members, match = match_members(content, self._key)
        if type(members.get(ID_COLUMN)) is float:
            members[ID_COLUMN] = self._whole_number_id(content[match.positions[ID_COLUMN]], body)
        defects: list[Defect] = []
        sample_id = _valid_id(members, match, defects)
        if FEATURES_KEY in members:
            values = self._wrapped(members, match, defects)
        else:
            values = self._named(members, match, defects)
        if values is not None:
            defects += self._value_defects(values, defects)
        if values is None or defects:
            return RefusedRecord(defects, sample_id)
        return Sample(tuple(values), sample_id)

    def _is_passed_over(self, name: str, value: Any) -> bool:
        if name in self._features:
            return False
        if self._passed_over(name) or self._schema.metadata_column(name):
            return True
        is_number = type(value) is float and value.is_integer()
        return (value in (None, "") or is_number) and is_spare(name)

    def _whole_number_id(self, member: tuple[str, Any], body: bytes | None) -> Any:
        """The text of an id that is a whole number; None where it is another number."""
        name, value = member
        if body is not None:
            return whole_number_texts(body).get(name)
        return f"{value:.0f}" if value.is_integer() and abs(value) < _EXACT else None

    def _feature(self, name: str) -> str | None:
        return self._features.get(name) or self._schema.canonical(name)

    def _key(self, name: str) -> str | None:
        """The feature, ``"features"`` or ``"id"`` that a member's name stands for."""
        if name == FEATURES_KEY:
            return FEATURES_KEY
        return self._feature(name) or (ID_COLUMN if self._schema.is_id(name) else None)

    def _wrapped(
        self, members: dict[str, Any], match: NameMatch, defects: list[Defect]
    ) -> list[float] | None:
        """Values of the member ``"features"``; None where it is not an object or list of them."""
        if FEATURES_KEY in match.repeated:
            defects.append(match.repeated[FEATURES_KEY])
        if match.unknown or not members.keys() <= {FEATURES_KEY, ID_COLUMN}:
            reason = "must stand alone, with at most an id beside it"
            defects.append(Defect(reason, column=FEATURES_KEY))
        content = members[FEATURES_KEY]
        if isinstance(content, list):
            return self._listed(content, defects)
        if not isinstance(content, Members):
            defects.append(Defect("must be an object or a list of numbers", column=FEATURES_KEY))
            return None
        if len(content) > self._schema.column_limit:
            defects.append(_too_many(content))
            return None
        content = Members(pair for pair in content if not self._is_passed_over(*pair))
        return self._named(*match_members(content, self._feature), defects)

    def _listed(self, content: list[Any], defects: list[Defect]) -> list[float] | None:
        names = self._schema.names
        if len(content) != len(names):
            reason = f"holds {counted(len(content), 'number')}; expected: {len(names)}"
            defects.append(Defect(reason, column=FEATURES_KEY))
            return None
        return [_number(*pair, defects) for pair in zip(names, content, strict=True)]

    def _named(
        self, members: dict[str, Any], match: NameMatch, defects: list[Defect]
    ) -> list[float]:
        schema = self._schema
        values = [math.nan] * len(schema.names)
        for name, value in members.items():
            if name in self._index:
                values[self._index[name]] = _number(name, value, defects)
        defects += [match.repeated[name] for name in schema.names if name in match.repeated]
        listed = match.unknown[:_MAX_UNKNOWN_LISTED]
        defects += [schema.unknown_name(name, schema.suggest(name)) for name in listed]
        if more := len(match.unknown) - len(listed):
            reason = counted(more, "more name is no feature", "more names are no features")
            defects.append(Defect(reason))
        defects += schema.missing_names(members)
        return values

    def _value_defects(self, values: list[float], defects: list[Defect]) -> list[Defect]:
        """Defects of numbers and rows, for features that have none yet."""
        if not defects and self.fast.is_valid(values):
            return []
        columns = {defect.column for defect in defects}
        row = self._schema.row_defects(np.array([values])).get(0, [])
        return [defect for defect in row if defect.column not in columns]


def _valid_id(members: dict[str, Any], match: NameMatch, defects: list[Defect]) -> str | None:
    sample_id = members.get(ID_COLUMN)
    if ID_COLUMN in match.repeated:
        defects.append(match.repeated[ID_COLUMN])
    elif isinstance(sample_id, str) and is_sample_id(sample_id.strip()):
        # Cells of tables have no blanks around them either.
        return sample_id.strip()
    elif ID_COLUMN in members:
        defects.append(Defect(INVALID_ID, column=ID_COLUMN))
    return None


def _number(feature: str, value: Any, defects: list[Defect]) -> float:
    """The value if it is a finite number; otherwise NaN, and a defect."""
    if type(value) is not float:
        defects.append(Defect("is not a number", column=feature))
    elif not math.isfinite(value):
        defects.append(Defect("is not a finite number", column=feature))
    else:
        return value
    return math.nan


def _too_many(members: Members) -> Defect:
    return Defect(f"an object of {len(members)} names is not read")
