"""Whatever bytes come, the readers of the other protocols give samples or refuse."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bc_pipeline.errors import RequestRefused, SchemaMismatch
from bc_pipeline.problems import get_problem
from bc_pipeline.serving.request_parsing.inference_request import read_request
from bc_pipeline.serving.request_parsing.mlflow_request import FORMATS, read_csv, read_table

SCHEMA = get_problem("wdbc").schema
NAMES = list(SCHEMA.names)
FUZZ = settings(suppress_health_check=list(HealthCheck))

words = st.sampled_from(
    [
        "id",
        "inputs",
        "outputs",
        "parameters",
        "name",
        "shape",
        "datatype",
        "data",
        "features",
        "FP64",
        "FP32",
        "label",
        "columns",
        "index",
        "binary_data_size",
        "dataframe_split",
        "instances",
        "mean_radius",
        "mean_texture",
    ]
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), words
)
trees: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(words | st.text(max_size=5), inner, max_size=4),
    ),
    max_leaves=12,
)
shapes = st.lists(st.one_of(st.integers(-2, 40), scalars), max_size=3)
tensors = st.fixed_dictionaries(
    {"name": st.just("features") | scalars, "datatype": st.sampled_from(["FP64", "FP32", "X"])},
    optional={
        "shape": st.just([1, 30]) | shapes,
        "data": st.lists(scalars, min_size=30, max_size=30) | trees,
        "parameters": st.dictionaries(words, st.just(240) | scalars, max_size=2),
    },
)


def refuses_or_reads(read: Any, *arguments: Any) -> None:
    """Anything but a refusal fails the test."""
    with suppress(RequestRefused, SchemaMismatch):
        read(*arguments, SCHEMA)


@FUZZ
@given(content=trees, blob=st.binary(max_size=300), length=st.none() | st.binary(max_size=5))
def test_any_json_is_read_or_refused(content: Any, blob: bytes, length: bytes | None) -> None:
    text = json.dumps(content).encode()
    refuses_or_reads(read_request, text + blob, length)
    refuses_or_reads(read_request, text + blob, b"%d" % len(text))
    refuses_or_reads(read_table, text)
    for form in FORMATS:
        refuses_or_reads(read_table, json.dumps({form: content}).encode())


@FUZZ
@given(tensor=tensors, blob=st.binary(min_size=240, max_size=240) | st.just(b""))
def test_any_tensor_is_read_or_refused(tensor: Any, blob: bytes) -> None:
    text = json.dumps({"inputs": [tensor]}).encode()
    refuses_or_reads(read_request, text + blob, b"%d" % len(text))


@FUZZ
@given(body=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    refuses_or_reads(read_csv, body)
    refuses_or_reads(read_csv, ",".join(NAMES).encode() + b"\n" + body)
    refuses_or_reads(read_table, body)
    refuses_or_reads(read_request, body, None)


@FUZZ
@given(
    cells=st.lists(st.floats(allow_nan=True) | st.integers(), min_size=30, max_size=30),
)
def test_every_format_gives_the_same_sample_or_defects(cells: list[float]) -> None:
    """One row, in six forms: the same sample, or the same defects."""
    record = dict(zip(NAMES, cells, strict=True))
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 30], "data": cells}
    found = [_outcome(read_request, json.dumps({"inputs": [tensor]}).encode(), None)]
    packed = tensor | {"parameters": {"binary_data_size": 240}}
    del packed["data"]
    text = json.dumps({"inputs": [packed]}).encode()
    blob = np.array([float(cell) for cell in cells], "<f8").tobytes()
    found.append(_outcome(read_request, text + blob, b"%d" % len(text)))
    tables = (
        {"dataframe_split": {"columns": NAMES, "data": [cells]}},
        {"dataframe_records": [record]},
        {"inputs": {name: [cell] for name, cell in record.items()}},
        {"instances": [cells]},
    )
    found += [_outcome(read_table, json.dumps(table).encode()) for table in tables]
    assert all(one == found[0] for one in found)


def _outcome(read: Any, *arguments: Any) -> Any:
    try:
        answer = read(*arguments, SCHEMA)
    except SchemaMismatch as error:
        return error.defects
    return getattr(answer, "samples", answer)


def test_a_valid_row_is_read(reference: Any) -> None:
    row = reference[0][0].tolist()
    (sample,) = read_table(json.dumps({"inputs": [row]}).encode(), SCHEMA)
    assert list(sample.values) == row
    with pytest.raises(SchemaMismatch):
        read_table(json.dumps({"inputs": [row[:-1]]}).encode(), SCHEMA)
