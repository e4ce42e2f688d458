"""From the bytes of a request to one sample, strictly: every defect is named, no value is.

The framework's own parsing is not used: it takes ``"5"`` and ``true`` as numbers and the
last of two equal keys, fails with status 500 on NaN and on lone surrogates, and repeats the
input in its errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from bc_pipeline.errors import BodyUnreadable, Defect, SchemaMismatch
from bc_pipeline.schema import ID_COLUMN, FeatureSchema
from bc_pipeline.serving.bodies.quick import ID_LENGTH, QuickReader, usable_id
from bc_pipeline.tables.numbers import is_number

FEATURES_KEY = "features"
# Bounds of what is examined and reported, so that no body can buy much of the service's time.
_NAME_LENGTH = 80
_NAMES_READ = 1000
_STRANGERS = 60


class Members(tuple[tuple[str, Any], ...]):
    """Members of a JSON object as they stand in the text, repeated names included."""


class Sample(msgspec.Struct, frozen=True):
    """One record to predict.

    Attributes
    ----------
    values : tuple of float
        In schema order; finite, within the physical ranges, obeying the row rules.
    id : str or None
        The caller's own name for the record.
    """

    values: tuple[float, ...]
    id: str | None = None


def parse_json(body: bytes) -> Any:
    """Parse JSON text; numbers become floats and objects `Members`.

    NaN, Infinity and numbers beyond the range of a float come out as non-finite floats, so
    that the defect can name the feature they were given for.

    Raises
    ------
    BodyUnreadable
        Where the bytes are not JSON in UTF-8. The message holds a position, no content.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=Members,
            parse_int=float,
            parse_constant=float,
        )
    except UnicodeDecodeError:
        problem = "The body is not UTF-8."
    except json.JSONDecodeError as error:
        problem = f"The body is not JSON: see line {error.lineno}, column {error.colno}."
    except RecursionError:
        problem = "The body is nested too deeply."
    raise BodyUnreadable(problem if body else "The body is empty.")


class BodyReader:
    """Reads request bodies against one feature schema."""

    def __init__(self, schema: FeatureSchema) -> None:
        self._schema = schema
        self._index = {name: index for index, name in enumerate(schema.names)}
        # Spellings that need no folding; anything else goes through the schema.
        self._known = {
            spelling: feature.name
            for feature in schema.features
            for spelling in (feature.name, feature.name.replace("_", " "), *feature.aliases)
        }
        self._quick = QuickReader(schema)

    def read(self, body: bytes) -> Sample:
        """Read one sample.

        Accepted are an object of named features, ``{"features": {name: number}}`` and
        ``{"features": [numbers in schema order]}``, each with an optional ``"id"``.

        Raises
        ------
        BodyUnreadable
        SchemaMismatch
            Listing every defect.
        """
        return self.read_quickly(body) or self.read_slowly(body)

    def read_quickly(self, body: bytes) -> Sample | None:
        """Read one sample the short way; None where the long way must tell."""
        quick = self._quick.read(body)
        return Sample(*quick) if quick is not None else None

    def read_slowly(self, body: bytes) -> Sample:
        """Read one sample the long way, which finds every defect."""
        return self.sample(parse_json(body))

    def sample(self, content: Any) -> Sample:
        """One sample of parsed JSON, as `parse_json` gives it.

        Raises
        ------
        SchemaMismatch
            Listing every defect.
        """
        defects: list[Defect] = []
        if not isinstance(content, Members):
            raise _mismatch([Defect("the record must be a JSON object")])
        if len(content) > _NAMES_READ:
            raise _mismatch([_crowd(content)])
        members, sample_id = self._take_id(content, defects)
        if any(name == FEATURES_KEY for name, _ in members):
            values = self._wrapped(members, defects)
        else:
            values = self._named(members, defects)
        # A feature that already has a defect stands as NaN, and counts once.
        if defects or not self._quick.sound(values):
            named = {defect.column for defect in defects}
            row = self._schema.row_defects(np.array([values])).get(0, [])
            defects += [defect for defect in row if defect.column not in named]
        if defects:
            raise _mismatch(defects)
        return Sample(values=tuple(values), id=sample_id)

    def id_of(self, content: Any) -> str | None:
        """The id of parsed JSON that is no sample, where it has one that can be used."""
        if not isinstance(content, Members) or len(content) > _NAMES_READ:
            return None
        return self._take_id(content, [])[1]

    def _take_id(
        self, members: Members, defects: list[Defect]
    ) -> tuple[list[tuple[str, Any]], str | None]:
        rest: list[tuple[str, Any]] = []
        found: list[Any] = []
        for name, value in members:
            if self._is_id(name):
                found.append(value)
            else:
                rest.append((name, value))
        if not found:
            return rest, None
        if len(found) > 1:
            defects.append(Defect("is given twice", column=ID_COLUMN))
            return rest, None
        sample_id = found[0]
        if isinstance(sample_id, str) and usable_id(sample_id):
            return rest, sample_id
        defects.append(
            Defect(f"must be a string of 1 to {ID_LENGTH} characters that print", column=ID_COLUMN)
        )
        return rest, None

    def _is_id(self, name: str) -> bool:
        return name not in self._known and len(name) <= _NAME_LENGTH and self._schema.is_id(name)

    def _wrapped(self, members: list[tuple[str, Any]], defects: list[Defect]) -> list[float]:
        wrapped = [value for name, value in members if name == FEATURES_KEY]
        if len(wrapped) > 1:
            defects.append(Defect("is given twice", column=FEATURES_KEY))
        if len(wrapped) < len(members):
            defects.append(
                Defect("must stand alone, with at most an id beside it", column=FEATURES_KEY)
            )
        content = wrapped[0]
        if isinstance(content, Members):
            if len(content) > _NAMES_READ:
                raise _mismatch([*defects, _crowd(content)])
            return self._named(content, defects)
        if isinstance(content, list):
            return self._listed(content, defects)
        raise _mismatch(
            [*defects, Defect("must be an object or a list of numbers", column=FEATURES_KEY)]
        )

    def _listed(self, content: list[Any], defects: list[Defect]) -> list[float]:
        expected = len(self._schema.names)
        if len(content) != expected:
            defects.append(
                Defect(
                    f"holds {len(content)} numbers; {expected} are expected", column=FEATURES_KEY
                )
            )
            # With one number too few or too many, position says nothing about any of them.
            raise _mismatch(defects)
        return [
            _number(name, value, defects)
            for name, value in zip(self._schema.names, content, strict=True)
        ]

    def _named(self, members: Sequence[tuple[str, Any]], defects: list[Defect]) -> list[float]:
        values = [math.nan] * len(self._schema.names)
        first: dict[str, str] = {}
        repeated: set[str] = set()
        strangers: list[str] = []
        for name, value in members:
            feature = self._feature(name)
            if feature is None:
                strangers.append(name)
            elif feature not in first:
                first[feature] = name
                values[self._index[feature]] = _number(feature, value, defects)
            elif feature not in repeated:
                repeated.add(feature)
                spelled = "" if name == first[feature] else f", as {first[feature]!r} and {name!r}"
                defects.append(Defect(f"is given twice{spelled}", column=feature))
        defects += [self._stranger(name) for name in strangers[:_STRANGERS]]
        if len(strangers) > _STRANGERS:
            defects.append(Defect(f"{len(strangers) - _STRANGERS} more names are no features"))
        defects += [
            Defect("is missing", column=name) for name in self._schema.names if name not in first
        ]
        return values

    def _feature(self, name: str) -> str | None:
        known = self._known.get(name)
        if known is None and len(name) <= _NAME_LENGTH:
            known = self._schema.canonical(name)
        return known

    def _stranger(self, name: str) -> Defect:
        if len(name) > _NAME_LENGTH or not name.isprintable():
            return Defect("a name that is too long or does not print is not a feature")
        if is_number(name):
            # Somebody's value that stands where its name should.
            return Defect("a name that is a number is not a feature")
        hint = self._schema.suggest(name)
        asked = f"; did you mean {hint!r}?" if hint else ""
        return Defect(f"is not a feature{asked}", column=name)


def _number(feature: str, value: Any, defects: list[Defect]) -> float:
    """The value where it is a finite number, else NaN and a defect."""
    if type(value) is not float:
        defects.append(Defect("is not a number", column=feature))
    elif not math.isfinite(value):
        defects.append(Defect("is not a finite number", column=feature))
    else:
        return value
    return math.nan


def _crowd(members: Members) -> Defect:
    return Defect(f"an object of {len(members)} names is not read")


def _mismatch(defects: list[Defect]) -> SchemaMismatch:
    count = len(defects)
    return SchemaMismatch(
        f"The input has {count} defect{'s' if count != 1 else ''}; see 'defects'.",
        source="request",
        defects=tuple(defects),
    )
