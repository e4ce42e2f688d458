"""Typed decoders of records whose names are all of one dialect.

msgspec decodes JSON into a struct three times faster than into a dict, and refuses a name that is
missing or unknown on the way. A name that is given twice it does not refuse: the last value
counts. So callers compare the number of quotes with that of the names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import GenericAlias
from typing import Any

import msgspec

from bc_pipeline.schema import FeatureSchema

Values = tuple[float, ...]
# Errors of a decoder: the content is not of its type, not JSON, or nested too deeply.
NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Dialect:
    """The names of all features as one kind of file spells them.

    Attributes
    ----------
    names : tuple of str
        In schema order.
    mark : bytes
        A name as JSON that no other dialect has; in a body, it shows that the dialect is used.
    record : type
        Struct with a field for each feature, in schema order.
    decode_record, decode_records : callable
        Decode a record, or a list of them.
    decode_wrapped, decode_wrapped_records : callable
        The same for objects with the ``features``, as `record` or as a list, and the ``id``.
    """

    def __init__(self, names: Sequence[str], mark: str) -> None:
        self.names = tuple(names)
        self.mark = msgspec.json.encode(mark)
        fields = [f"feature_{index}" for index in range(len(self.names))]
        record: Any = msgspec.defstruct(
            "Record",
            [(field, float) for field in fields],
            rename=dict(zip(fields, self.names, strict=True)),
            forbid_unknown_fields=True,
        )
        wrapped: Any = msgspec.defstruct(
            "WrappedRecord",
            [("features", record | list[float]), ("id", str | None, None)],
            forbid_unknown_fields=True,
        )
        self.record = record
        self.decode_record = _decoder(record)
        self.decode_wrapped = _decoder(wrapped)
        self.decode_records = _decoder(GenericAlias(list, record))
        self.decode_wrapped_records = _decoder(GenericAlias(list, wrapped))

    def quotes(self, wrapped: Any) -> int:
        """Quotes in the JSON of a wrapped record that repeats no name."""
        names = 0 if type(wrapped.features) is list else 2 * len(self.names)
        return names + (2 if wrapped.id is None else 6)


def _decoder(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


def values_of(features: Any) -> Values:
    """The numbers of a record, or of a list, as decoded."""
    if type(features) is list:
        return tuple(features)
    values: Values = msgspec.structs.astuple(features)
    return values


def dialects_of(schema: FeatureSchema) -> list[Dialect]:
    """The dialects of a schema, the most common first."""
    spaced = tuple(name.replace("_", " ") for name in schema.names)
    aliases: list[tuple[str, ...]] = list(
        zip(*(feature.aliases for feature in schema.features), strict=False)
    )
    spellings = list(dict.fromkeys([schema.names, spaced, *aliases]))
    dialects = []
    for names in spellings:
        others = {name for other in spellings if other != names for name in other}
        own = (name for name in names if name not in others)
        dialects.append(Dialect(names, next(own, names[0])))
    return dialects


def dialect_in(body: bytes, dialects: Sequence[Dialect]) -> Dialect:
    """The dialect that a body uses; the first one where it has no names."""
    for dialect in dialects:
        if dialect.mark in body:
            return dialect
    return dialects[0]
