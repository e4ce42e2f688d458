"""Parses the usual tables of the other protocols quickly if all their rows are certainly valid.

Everything else is left to the strict parsers, `mlflow_request` and `inference_request`, which name
every defect. A property test asserts that a table parsed here equals the strict parsers'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import GenericAlias
from typing import Any

import msgspec
import numpy as np

from bc_pipeline.names import is_sample_id
from bc_pipeline.serving.request_parsing.dialects import (
    NOT_DECODED,
    Dialect,
    Values,
    dialect_in,
    values_of,
)
from bc_pipeline.serving.request_parsing.fast_record import FastRecordParser, Sample
from bc_pipeline.serving.request_parsing.inference_request import (
    DATATYPES,
    INPUT,
    OUTPUTS,
    InferenceRequest,
)

_ALL_OUTPUTS = tuple((name, False) for name in OUTPUTS)


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    data: list[list[float]]


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _Inference(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Output] = []


class FastTableParser:
    """Parses tables whose columns are all features, in schema order or by the names of a dialect.

    Parameters
    ----------
    records : FastRecordParser
        Of the same schema.
    """

    def __init__(self, records: FastRecordParser) -> None:
        self._records = records
        self._columns = frozenset(dialect.names for dialect in records.dialects)
        self._width = len(records.dialects[0].names)
        self._decoders = [_table_decoder(dialect) for dialect in records.dialects]
        self._decode_inference = msgspec.json.Decoder(_Inference).decode

    def mlflow(self, body: bytes) -> list[Sample] | None:
        """The rows of a request in MLflow's protocol; None for `read_table` to decide."""
        dialects = self._records.dialects
        decode = self._decoders[dialects.index(dialect_in(body, dialects))]
        try:
            table = decode(body)
        except NOT_DECODED:
            return None
        members = [one for one in msgspec.structs.astuple(table) if one is not msgspec.UNSET]
        if len(members) != 1 or b"\\" in body:
            return None
        (content,) = members
        rows, quotes = self._split(content) if isinstance(content, _Split) else self._rows(content)
        # Of the table's own name and of all others: a repeated one would make it more.
        return self._records.samples(rows) if body.count(b'"') == 2 + quotes else None

    def _split(self, table: _Split) -> tuple[Sequence[Values], int]:
        if tuple(table.columns) not in self._columns:
            return (), 0
        return list(map(tuple, table.data)), 2 * (2 + len(table.columns))

    def _rows(self, content: list[Any]) -> tuple[Sequence[Values], int]:
        """Rows of a list, which are all lists or all records."""
        kinds = set(map(type, content))
        if len(kinds) != 1:
            return (), 0
        names = 0 if list in kinds else self._width
        return list(map(values_of, content)), 2 * names * len(content)

    def inference(self, body: bytes) -> InferenceRequest | None:
        """A request of the Open Inference Protocol; None for `read_request` to decide."""
        try:
            request = self._decode_inference(body)
        except NOT_DECODED:
            return None
        if len(request.inputs) != 1 or b"\\" in body:
            return None
        (tensor,), outputs = request.inputs, [output.name for output in request.outputs]
        # Of 'inputs', the tensor's four members and their two texts, the outputs and the id.
        texts = 7 + (1 + 2 * len(outputs) if outputs else 0) + (2 if request.id is not None else 0)
        if (
            body.count(b'"') != 2 * texts
            or tensor.name != INPUT
            or tensor.datatype not in DATATYPES
            or not self._fits(tensor)
            or not (request.id is None or is_sample_id(request.id))
            or not OUTPUTS.keys() >= set(outputs)
            or len(set(outputs)) != len(outputs)
        ):
            return None
        samples = self._records.samples(self._tensor_rows(tensor))
        if samples is None:
            return None
        chosen = tuple((name, False) for name in outputs) if outputs else _ALL_OUTPUTS
        return InferenceRequest(samples, chosen, request.id)

    def _fits(self, tensor: _Tensor) -> bool:
        shape = tensor.shape
        return (
            len(shape) == 2 and shape[1] == self._width and len(tensor.data) == shape[0] * shape[1]
        )

    def _tensor_rows(self, tensor: _Tensor) -> Sequence[Values]:
        data = tensor.data
        if tensor.datatype == "FP32":
            with np.errstate(over="ignore", under="ignore"):
                data = np.array(data, DATATYPES["FP32"]).astype(np.float64).tolist()
        width = self._width
        return [tuple(data[start : start + width]) for start in range(0, len(data), width)]


def _table_decoder(dialect: Dialect) -> Callable[[bytes], Any]:
    """A decoder of objects that have exactly one of the tables, of the dialect's records."""
    records = GenericAlias(list, dialect.record)
    rows = GenericAlias(list, dialect.record | list[float])
    kinds: dict[str, Any] = {
        "dataframe_split": _Split,
        "dataframe_records": records,
        "inputs": rows,
        "instances": rows,
    }
    table = msgspec.defstruct(
        "Table",
        [(name, kind | msgspec.UnsetType, msgspec.UNSET) for name, kind in kinds.items()],
        forbid_unknown_fields=True,
    )
    return msgspec.json.Decoder(table).decode
