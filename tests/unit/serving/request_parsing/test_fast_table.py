"""The fast parser of tables never accepts what a strict one refuses, nor parses it differently."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import RequestRefused, SchemaMismatch
from bc_pipeline.problems import get_problem
from bc_pipeline.serving.request_parsing.fast_record import FastRecordParser
from bc_pipeline.serving.request_parsing.fast_table import FastTableParser
from bc_pipeline.serving.request_parsing.inference_request import read_request
from bc_pipeline.serving.request_parsing.mlflow_request import read_table

SCHEMA = get_problem("wdbc").schema
NAMES = list(SCHEMA.names)
SPACED = [name.replace("_", " ") for name in NAMES]
FAST = FastTableParser(FastRecordParser(SCHEMA))


def parsed(body: bytes) -> tuple[Any, Any]:
    """What the fast parser and the strict one make of a body, by either protocol."""
    is_inference = b'"shape"' in body
    try:
        strict = read_request(body, None, SCHEMA) if is_inference else read_table(body, SCHEMA)
    except (RequestRefused, SchemaMismatch):
        strict = None
    return (FAST.inference if is_inference else FAST.mlflow)(body), strict


def tables(rows: list[list[float]]) -> dict[str, Any]:
    records = [dict(zip(SPACED, row, strict=True)) for row in rows]
    tensor = {"name": "features", "datatype": "FP64", "shape": [len(rows), len(NAMES)]}
    flat = {"data": [value for row in rows for value in row]}
    return {
        "split": {"dataframe_split": {"columns": NAMES, "data": rows}},
        "spaced split": {"dataframe_split": {"columns": SPACED, "data": rows}},
        "records": {"dataframe_records": records},
        "inputs": {"inputs": rows},
        "instances": {"instances": records},
        "tensor": {"inputs": [tensor | flat]},
        "FP32": {"inputs": [tensor | flat | {"datatype": "FP32"}]},
        "with id": {"id": "a-1", "inputs": [tensor | flat]},
        "outputs": {"inputs": [tensor | flat], "outputs": [{"name": "label"}]},
    }


FORMS = tuple(tables([[0.0] * len(NAMES)]))


@pytest.mark.parametrize("count", [1, 3, 60])
@pytest.mark.parametrize("form", FORMS)
def test_usual_tables_are_parsed_like_by_the_strict_parser(
    reference: tuple[np.ndarray, np.ndarray], form: str, count: int
) -> None:
    fast, strict = parsed(json.dumps(tables(reference[0][:count].tolist())[form]).encode())
    assert fast is not None
    assert fast == strict


EDITS = (
    ("17.99", "-1"),
    ("17.99", "null"),
    ("17.99", '"17.99"'),
    ("17.99", "true"),
    ("17.99", "NaN"),
    ("17.99", "1e400"),
    ("17.99, ", ""),
    ("{", '{"params": {}, '),
    ('"mean radius"', '"mean texture"'),
    ('"mean_radius"', '"radius_mean"'),
    ('"columns"', '"index": [0], "columns"'),
    ('"data"', '"data": [], "data"'),
    ('"inputs"', '"id": null, "inputs"'),
    ('"inputs"', '"id": "\\u0007", "inputs"'),
    ('"inputs"', '"inputs": [], "inputs"'),
    ('"label"', '"labels"'),
    ('"label"', '"label", "name": "prediction"'),
    ('"name": "label"', '"name": "label", "parameters": {"binary_data": true}'),
    ('[{"name": "label"}]', '[{"name": "label"}, {"name": "label"}]'),
    ('[{"name": "label"}]', "[]"),
    ('"FP64"', '"INT64"'),
    ("[1, 30]", "[2, 15]"),
    ("[1, 30]", "[1.0, 30]"),
    ("[1, 30]", "[-1, -30]"),
    ('"shape"', '"parameters": {}, "shape"'),
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("old", "new"), EDITS)
def test_edited_tables_are_parsed_alike_or_left_to_the_strict_parser(
    reference: tuple[np.ndarray, np.ndarray], form: str, old: str, new: str
) -> None:
    text = json.dumps(tables(reference[0][:1].tolist())[form])
    fast, strict = parsed(text.replace(old, new, 1).encode())
    assert fast is None or fast == strict


@given(
    form=st.sampled_from(FORMS),
    cells=st.lists(
        st.lists(st.floats() | st.integers(), min_size=29, max_size=31), min_size=0, max_size=2
    ),
)
def test_any_numbers_are_parsed_alike(form: str, cells: list[list[float]]) -> None:
    if all(len(row) == len(NAMES) for row in cells):
        fast, strict = parsed(json.dumps(tables(cells)[form]).encode())
        assert fast is None or fast == strict
    fast, strict = parsed(json.dumps({"inputs": cells}).encode())
    assert fast is None or fast == strict


@given(body=st.binary(max_size=200))
def test_any_bytes_are_left_to_the_strict_parser(body: bytes) -> None:
    assert FAST.mlflow(body) is None
    assert FAST.inference(body) is None
