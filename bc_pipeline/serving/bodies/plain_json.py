"""Read small JSON bodies into structs: strictly, and without repeating a value of theirs."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from bc_pipeline.errors import Defect, SchemaMismatch
from bc_pipeline.serving.bodies.body import Members, parse_json
from bc_pipeline.tables.numbers import is_number

S = TypeVar("S", bound=msgspec.Struct)
_SHOWN = 40


def read_struct(body: bytes, kind: type[S]) -> S:
    """Read one object.

    Raises
    ------
    BodyUnreadable
        Where the body is not JSON.
    SchemaMismatch
        Naming every field that is unknown, missing, given twice or of another type.
    """
    made, defects = convert(parse_json(body), kind)
    if made is None:
        raise refusal(defects)
    return made


def convert(content: Any, kind: type[S]) -> tuple[S | None, list[Defect]]:
    """The struct of an object as `parse_json` gives it, or its defects."""
    given, defects = members(content, kind)
    return (None, defects) if defects else (msgspec.convert(given, kind), [])


def members(content: Any, kind: type[msgspec.Struct]) -> tuple[dict[str, Any], list[Defect]]:
    """The sound members of an object by their names, and what is wrong with it."""
    if not isinstance(content, Members):
        return {}, [Defect("must be a JSON object")]
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    given: dict[str, Any] = {}
    defects: list[Defect] = []
    for name, value in content[: len(fields) + _SHOWN]:
        if name not in fields:
            known = ", ".join(fields)
            plain = len(name) <= _SHOWN and name.isprintable() and not is_number(name)
            shown = name if plain else None
            defects.append(Defect(f"is not a field; there are {known}", column=shown))
        elif name in given:
            defects.append(Defect("is given twice", column=name))
        else:
            given[name] = value
    for name, field in fields.items():
        if name in given:
            try:
                msgspec.convert(given[name], field.type)
            # A lone surrogate has no UTF-8, which is what the message of the first would hold.
            except (msgspec.ValidationError, UnicodeEncodeError):
                del given[name]
                defects.append(Defect("is of another type than it should be", column=name))
        elif field.required:
            defects.append(Defect("is missing", column=name))
    return given, defects


def refusal(defects: list[Defect]) -> SchemaMismatch:
    """What to raise for defects."""
    count = len(defects)
    return SchemaMismatch(
        f"The body has {count} defect{'s' if count != 1 else ''}; see 'defects'.",
        source="request",
        defects=tuple(defects),
    )
