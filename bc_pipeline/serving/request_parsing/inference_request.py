"""Parses requests of the Open Inference Protocol V2 and its binary tensor data extension.

The body is JSON. With the extension, the header ``Inference-Header-Content-Length`` says where
the JSON ends; the bytes of the tensors follow. Members that the protocol does not define are
ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bc_pipeline.errors import HeaderRefused, counted
from bc_pipeline.names import MAX_ID_LENGTH, is_sample_id
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.request_parsing.defects import mismatch_at
from bc_pipeline.serving.request_parsing.fast_record import Sample
from bc_pipeline.serving.request_parsing.json_members import require_members
from bc_pipeline.serving.request_parsing.rows import (
    MAX_LISTED,
    parse_values,
    require_row_count,
    to_array,
    to_samples,
)
from bc_pipeline.tables.checks import RowDefects

INPUT = "features"
_INVALID_ID = f"must be a string of 1 to {MAX_ID_LENGTH} characters that print"
DATATYPES: dict[str, np.dtype[Any]] = {"FP64": np.dtype("<f8"), "FP32": np.dtype("<f4")}
OUTPUTS = {"probability": "FP64", "label": "BYTES", "prediction": "INT64", "prediction_id": "BYTES"}
LENGTH_HEADER = "Inference-Header-Content-Length"
_REGION = "shared_memory_region"
_BINARY_SIZE, _BINARY, _BINARY_ALL = "binary_data_size", "binary_data", "binary_data_output"


@dataclass(frozen=True)
class InferenceRequest:
    """A parsed request.

    Attributes
    ----------
    outputs : tuple of (str, bool)
        Names of the output tensors, and whether they are returned as binary data.
    """

    samples: list[Sample]
    outputs: tuple[tuple[str, bool], ...]
    id: str | None = None


def read_request(body: bytes, json_length: bytes | None, schema: FeatureSchema) -> InferenceRequest:
    """Parse a request.

    Parameters
    ----------
    json_length : bytes or None
        The header `LENGTH_HEADER`; without it the body is JSON to its end.

    Raises
    ------
    HeaderRefused
    BodyTooLarge
    BodyUnreadable
    SchemaMismatch
        Naming row and feature of every defect of the values.
    """
    end = len(body) if json_length is None else _length(json_length, len(body))
    known = ("id", "inputs", "outputs", "parameters")
    content = require_members(parse_values(body[:end]), known, "body")
    request_id = content.get("id")
    if request_id is not None and not (isinstance(request_id, str) and is_sample_id(request_id)):
        raise mismatch_at("id", _INVALID_ID)
    outputs = _outputs(content.get("outputs"), _parameters(content, "parameters"))
    defects = RowDefects(MAX_LISTED)
    values = _input(content.get("inputs"), memoryview(body)[end:], schema.names, defects)
    return InferenceRequest(to_samples(schema, values, defects), outputs, request_id)


def _length(header: bytes, size: int) -> int:
    if not header.isdigit() or not 0 < int(header[:20]) <= size:
        raise HeaderRefused(
            f"{LENGTH_HEADER} must be the size of the JSON that the body begins with.",
            header=LENGTH_HEADER,
        )
    return int(header[:20])


def _parameters(
    content: Mapping[str, Any], where: str, known: Sequence[str] = (_BINARY_ALL,)
) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    return {} if parameters is None else require_members(parameters, known, where)


def _outputs(requested: Any, parameters: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    binary = _flag(parameters, _BINARY_ALL, default=False)
    if requested is None or requested == []:
        return tuple((name, binary) for name in OUTPUTS)
    if not isinstance(requested, list):
        raise mismatch_at("outputs", "must be a list of tensors")
    chosen: dict[str, bool] = {}
    for index, entry in enumerate(requested):
        where = f"outputs[{index}]"
        tensor = require_members(entry, ("name", "parameters"), where)
        name = tensor.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            raise mismatch_at(f"{where}.name", f"is not an output; there are {', '.join(OUTPUTS)}")
        if name in chosen:
            raise mismatch_at(f"{where}.name", f"repeats the output {name}")
        options = _parameters(tensor, where, (_BINARY, _REGION, "classification"))
        if len(options) > (_BINARY in options):
            raise mismatch_at(where, "neither shared memory nor classification is offered")
        chosen[name] = _flag(options, _BINARY, default=binary)
    return tuple(chosen.items())


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise mismatch_at(name, "must be true or false")
    return value


def _input(inputs: Any, blob: memoryview, names: Sequence[str], defects: RowDefects) -> np.ndarray:
    """Values of the one tensor; array of float64, shape (n, n_features)."""
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise mismatch_at("inputs", "must be a list of one tensor")
    known = ("name", "datatype", "shape", "data", "parameters")
    tensor = require_members(inputs[0], known, "inputs[0]")
    if tensor.get("name") != INPUT:
        raise mismatch_at("inputs[0].name", f"must be named {INPUT!r}")
    kind = tensor.get("datatype")
    if not isinstance(kind, str) or kind not in DATATYPES:
        raise mismatch_at("inputs[0].datatype", f"must be one of {', '.join(DATATYPES)}")
    rows = _row_count(tensor.get("shape"), len(names))
    options = _parameters(tensor, "inputs[0].parameters", (_BINARY_SIZE, _REGION))
    if _REGION in options:
        raise mismatch_at("inputs[0].parameters", "shared memory is not offered")
    size = options.get(_BINARY_SIZE)
    if (size is None) == ("data" not in tensor):
        raise mismatch_at("inputs[0]", f"needs either data or the parameter {_BINARY_SIZE}")
    if size is None:
        if len(blob):
            raise mismatch_at("inputs", "are followed by bytes of no tensor")
        values = _listed(tensor["data"], rows, names, defects)
        # FP32 rounds values, and makes those beyond its range infinite.
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(DATATYPES[kind]).astype(np.float64)
    expected = rows * len(names) * DATATYPES[kind].itemsize
    if size != expected or len(blob) != expected:
        raise mismatch_at(
            f"inputs[0].parameters.{_BINARY_SIZE}",
            f"must be {expected}, and as many bytes must follow the JSON; {len(blob)} do",
        )
    return np.frombuffer(blob, DATATYPES[kind]).reshape(rows, len(names)).astype(np.float64)


def _row_count(shape: Any, width: int) -> int:
    """First of the two dimensions."""
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(size) is float and size.is_integer() for size in shape)
        and shape[1] == width
        and shape[0] >= 0
    ):
        raise mismatch_at(
            "inputs[0].shape", f"must be the two numbers of rows and of features, {width}"
        )
    rows = int(shape[0])
    require_row_count(rows, "inputs[0].shape")
    return rows


def _listed(data: Any, rows: int, names: Sequence[str], defects: RowDefects) -> np.ndarray:
    """Data in JSON: all values in one list, or a list of rows."""
    width, where = len(names), "inputs[0].data"
    if not isinstance(data, list):
        raise mismatch_at(where, "must be a list")
    if len(data) == rows and all(isinstance(row, list) for row in data):
        if any(len(row) != width for row in data):
            raise mismatch_at(where, f"must hold {counted(width, 'number')} in every row")
        rows_of_cells = data
    elif len(data) != rows * width:
        raise mismatch_at(
            where, f"holds {counted(len(data), 'value')}; the shape says {rows * width}"
        )
    else:
        rows_of_cells = [data[start : start + width] for start in range(0, len(data), width)]
    return to_array(rows_of_cells, names, defects)
