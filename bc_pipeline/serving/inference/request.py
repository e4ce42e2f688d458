"""A request of the Open Inference Protocol V2, with its binary tensor data extension.

The protocol's body is JSON. With the extension, the header ``Inference-Header-Content-Length``
says where the JSON ends; the bytes of the tensors follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bc_pipeline.errors import HeaderRefused
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.bodies.body import Sample
from bc_pipeline.serving.bodies.quick import ID_LENGTH, usable_id
from bc_pipeline.serving.inference.rows import (
    Faults,
    members,
    numbers,
    parse_values,
    require_rows,
    to_samples,
    wrong,
)

INPUT = "features"
DATATYPES: dict[str, np.dtype[Any]] = {"FP64": np.dtype("<f8"), "FP32": np.dtype("<f4")}
OUTPUTS = {"probability": "FP64", "label": "BYTES", "prediction": "INT64", "prediction_id": "BYTES"}
LENGTH_HEADER = "Inference-Header-Content-Length"
_REGION = "shared_memory_region"
_BINARY_SIZE, _BINARY, _BINARY_ALL = "binary_data_size", "binary_data", "binary_data_output"


@dataclass(frozen=True)
class InferenceRequest:
    """What is asked.

    Attributes
    ----------
    outputs : tuple of (str, bool)
        Names of the tensors to answer with, and whether as binary data.
    """

    samples: list[Sample]
    outputs: tuple[tuple[str, bool], ...]
    id: str | None = None


def read_request(body: bytes, json_length: bytes | None, schema: FeatureSchema) -> InferenceRequest:
    """Read a request.

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
    content = members(parse_values(body[:end]), ("id", "inputs", "outputs", "parameters"), "body")
    request_id = content.get("id")
    if request_id is not None and not (isinstance(request_id, str) and usable_id(request_id)):
        raise wrong(f"must be a string of 1 to {ID_LENGTH} characters that print", "id")
    outputs = _outputs(content.get("outputs"), _parameters(content, "parameters"))
    faults = Faults()
    values = _input(content.get("inputs"), memoryview(body)[end:], schema.names, faults)
    return InferenceRequest(to_samples(schema, values, faults), outputs, request_id)


def _length(header: bytes, size: int) -> int:
    if not header.isdigit() or not 0 < int(header[:20]) <= size:
        raise HeaderRefused(
            f"{LENGTH_HEADER} must be the size of the JSON that the body begins with.",
            header=LENGTH_HEADER,
        )
    return int(header[:20])


def _parameters(
    content: dict[str, Any], where: str, known: Sequence[str] = (_BINARY_ALL,)
) -> dict[str, Any]:
    found = content.get("parameters")
    return {} if found is None else members(found, known, where)


def _outputs(asked: Any, parameters: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    binary = _flag(parameters, _BINARY_ALL, default=False)
    if asked is None or asked == []:
        return tuple((name, binary) for name in OUTPUTS)
    if not isinstance(asked, list) or len(asked) > len(OUTPUTS):
        raise wrong(f"must be a list of at most {len(OUTPUTS)} tensors", "outputs")
    chosen: dict[str, bool] = {}
    for place, entry in enumerate(asked):
        where = f"outputs[{place}]"
        tensor = members(entry, ("name", "parameters"), where)
        name = tensor.get("name")
        if not isinstance(name, str) or name not in OUTPUTS or name in chosen:
            raise wrong(f"must name one of {', '.join(OUTPUTS)}, each at most once", where)
        options = _parameters(tensor, where, (_BINARY, _REGION, "classification"))
        if len(options) > (_BINARY in options):
            raise wrong("neither shared memory nor classification is offered", where)
        chosen[name] = _flag(options, _BINARY, default=binary)
    return tuple(chosen.items())


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise wrong("must be true or false", name)
    return value


def _input(asked: Any, blob: memoryview, names: Sequence[str], faults: Faults) -> np.ndarray:
    """Values of the one tensor; array of float64, shape (n, n_features)."""
    if not isinstance(asked, list) or len(asked) != 1:
        raise wrong("must be a list of one tensor", "inputs")
    tensor = members(asked[0], ("name", "datatype", "shape", "data", "parameters"), "inputs[0]")
    if tensor.get("name") != INPUT:
        raise wrong(f"must be named {INPUT!r}", "inputs[0].name")
    kind = tensor.get("datatype")
    if not isinstance(kind, str) or kind not in DATATYPES:
        raise wrong(f"must be one of {', '.join(DATATYPES)}", "inputs[0].datatype")
    rows = _row_count(tensor.get("shape"), len(names))
    options = _parameters(tensor, "inputs[0].parameters", (_BINARY_SIZE, _REGION))
    if _REGION in options:
        raise wrong("shared memory is not offered", "inputs[0].parameters")
    size = options.get(_BINARY_SIZE)
    if (size is None) == ("data" not in tensor):
        raise wrong(f"needs either data or the parameter {_BINARY_SIZE}", "inputs[0]")
    if size is None:
        if len(blob):
            raise wrong("are followed by bytes of no tensor", "inputs")
        values = _listed(tensor["data"], rows, names, faults)
        # As the tensor says: what FP32 cannot hold is rounded, and what is too large infinite.
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(DATATYPES[kind]).astype(np.float64)
    expected = rows * len(names) * DATATYPES[kind].itemsize
    if size != expected or len(blob) != expected:
        raise wrong(
            f"must be {expected}, and as many bytes must follow the JSON; {len(blob)} do",
            f"inputs[0].parameters.{_BINARY_SIZE}",
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
        raise wrong(f"must be the two numbers of rows and of features, {width}", "inputs[0].shape")
    rows = int(shape[0])
    require_rows(rows, "inputs[0].shape")
    return rows


def _listed(data: Any, rows: int, names: Sequence[str], faults: Faults) -> np.ndarray:
    """Data in JSON: all values in one list, or a list of rows."""
    width, where = len(names), "inputs[0].data"
    if not isinstance(data, list):
        raise wrong("must be a list", where)
    if len(data) == rows and all(isinstance(row, list) for row in data):
        if any(len(row) != width for row in data):
            raise wrong(f"must hold {width} numbers in every row", where)
        return np.array([numbers(row, at, names, faults) for at, row in enumerate(data)])
    if len(data) != rows * width:
        raise wrong(f"holds {len(data)} values; the shape says {rows * width}", where)
    return np.array(
        [numbers(data[at * width : (at + 1) * width], at, names, faults) for at in range(rows)]
    )
