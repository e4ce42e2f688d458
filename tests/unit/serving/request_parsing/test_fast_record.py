"""The fast parser must never accept what the strict one refuses, nor parse it differently."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import PipelineError
from bc_pipeline.problems import get_problem
from bc_pipeline.row_rule import RowRule
from bc_pipeline.schema import Feature, FeatureSchema
from bc_pipeline.serving.request_parsing.fast_record import Bounds, FastRecordParser, Sample
from bc_pipeline.serving.request_parsing.json_members import parse_json
from bc_pipeline.serving.request_parsing.record import RecordParser

SCHEMA = get_problem("wdbc").schema
FAST = FastRecordParser(SCHEMA)
STRICT = RecordParser(SCHEMA)


def parse_strictly(body: bytes) -> Sample | None:
    try:
        record = STRICT.check(parse_json(body))
    except PipelineError:
        return None
    return record if isinstance(record, Sample) else None


def agree(body: bytes) -> bool:
    """Whether the fast parser accepts a body; fails where the strict one differs."""
    record = FAST.parse(body)
    if record is None:
        return False
    assert parse_strictly(body) == record
    return True


@pytest.fixture(scope="module")
def row(reference: tuple[np.ndarray, np.ndarray]) -> list[float]:
    values: list[float] = reference[0][0].tolist()
    return values


def dialects() -> list[tuple[str, ...]]:
    spaced = tuple(name.replace("_", " ") for name in SCHEMA.names)
    aliases = zip(*(feature.aliases for feature in SCHEMA.features), strict=False)
    return [SCHEMA.names, spaced, *aliases]


@pytest.mark.parametrize("names", dialects(), ids=lambda names: names[0])
def test_every_dialect_is_parsed_by_the_fast_parser(
    names: tuple[str, ...], row: list[float]
) -> None:
    assert agree(json.dumps(dict(zip(names, row, strict=True))).encode())
    assert agree(json.dumps(dict(sorted(zip(names, row, strict=True))), indent=2).encode())


def test_a_list_is_parsed_by_the_fast_parser_with_or_without_an_id(row: list[float]) -> None:
    assert agree(json.dumps({"features": row}).encode())
    assert agree(json.dumps({"features": row, "id": "a-1"}).encode())
    assert agree(json.dumps({"id": "a-1", "features": row}).encode())
    assert agree(json.dumps({"features": [int(value) or value for value in row]}).encode()) in (
        True,
        False,
    )


def edited(row: list[float], old: str, new: str) -> bytes:
    text = json.dumps(dict(zip(SCHEMA.names, row, strict=True)))
    assert old in text
    return text.replace(old, new, 1).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mean_area": 1001.0', '"mean_area": 1001.0, "mean_area": 1001.0'),
        ('"mean_area": 1001.0', '"mean_area": 1001.0, "area_mean": 1001.0'),
        ('"mean_area": 1001.0', '"mean_are\\u0061": 1001.0, "mean_area": 1001.0'),
        ('"mean_area": 1001.0', '"mean_area": "1001.0"'),
        ('"mean_area": 1001.0', '"mean_area": true'),
        ('"mean_area": 1001.0', '"mean_area": null'),
        ('"mean_area": 1001.0', '"mean_area": NaN'),
        ('"mean_area": 1001.0', '"mean_area": 1e400'),
        ('"mean_area": 1001.0', '"mean_area": ' + "9" * 5000),
        ('"mean_area": 1001.0', '"mean_area": 01001.0'),
        ('"mean_area": 1001.0', '"mean_aera": 1001.0'),
        ('"mean_area": 1001.0, ', ""),
        ("{", "["),
    ],
)
def test_records_with_defects_are_left_to_the_strict_parser(
    row: list[float], old: str, new: str
) -> None:
    assert FAST.parse(edited(row, old, new)) is None


@pytest.mark.parametrize(
    "extra",
    [
        '"features": [1], ',
        '"id": "a", "id": "b", ',
        '"id": "\\u0061", ',
        '"id": "", ',
        '"id": "\t", ',
        '"id": null, ',
        '"id": 5, ',
        '"x": 1, ',
    ],
)
def test_additional_members_beside_features_are_parsed_alike(row: list[float], extra: str) -> None:
    text = json.dumps({"features": row})
    for body in (text.replace("{", "{" + extra, 1), text[:-1] + ", " + extra[:-2] + "}"):
        agree(body.encode())


NUMBERS = (
    st.floats(allow_nan=False)
    | st.integers(-(10**20), 10**20)
    | st.sampled_from([0, -0.0, 5e-324, 2**53 + 1, 1e308])
)


@given(
    st.sampled_from(dialects()),
    st.dictionaries(st.integers(0, 29), NUMBERS, max_size=3),
    st.integers(0, 568),
    st.booleans(),
)
def test_changed_reference_rows_are_parsed_alike(
    reference: Any, names: tuple[str, ...], changes: dict[int, float], index: int, wrapped: bool
) -> None:
    values = reference[0][index].tolist()
    for place, value in changes.items():
        values[place] = value
    content = {"features": values} if wrapped else dict(zip(names, values, strict=True))
    accepted = agree(json.dumps(content).encode())
    assert accepted or changes or parse_strictly(json.dumps(content).encode()) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_alike(body: bytes) -> None:
    agree(body)
    agree(b'{"features":' + body)


def test_bounds_report_positions_of_values_outside() -> None:
    bounds = Bounds([0, 0, 0], [1, 1, 1])
    assert bounds.contain([0, 0.5, 1])
    assert not bounds.contain([0, float("nan"), 1])
    assert bounds.outside([-1, 0.5, float("nan")]) == [0, 2]


def test_every_reference_row_is_valid(reference: tuple[np.ndarray, np.ndarray]) -> None:
    assert all(FAST.is_valid(values) for values in reference[0].tolist())


SMALL = FeatureSchema(
    features=(
        Feature("a", "1", 0, 10),
        Feature("b", "1", 0, 10),
        Feature("c", "1", -5, 5),
    ),
    rules=(
        RowRule("order", "at_least", "a", "b"),
        RowRule("zero", "zero_together", "a", "c"),
        RowRule("square", "ratio", "a", "b", scale=2, power=2, low=0.5, high=1.5),
        RowRule("open", "ratio", "a", "c", low=0.1),
    ),
)
EDGES = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.5, 5.0, 10.0, 10.000001, -0.0, 1e-200, 5e-324])


@given(st.tuples(*[EDGES | st.floats(-6, 11)] * 3))
def test_a_valid_row_has_no_defect(row: tuple[float, float, float]) -> None:
    if FastRecordParser(SMALL).is_valid(row):
        assert SMALL.row_defects(np.array([row])) == {}


def test_a_list_is_parsed_by_the_fast_parser_like_its_records(
    reference: tuple[np.ndarray, np.ndarray],
) -> None:
    rows = reference[0][:60].tolist()
    named = [dict(zip(SCHEMA.names, row, strict=True)) for row in rows]
    listed = [{"id": f"p-{number}", "features": row} for number, row in enumerate(rows)]
    mixed = [{"features": row} for row in rows[:3]] + [{"id": "x", "features": named[3]}]
    for records in (named, listed, mixed, named[:1]):
        expected = [FAST.parse(json.dumps(record).encode()) for record in records]
        assert None not in expected
        assert FAST.parse_list(json.dumps(records).encode()) == expected


@pytest.mark.parametrize("position", [0, 40])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mean_radius": ', '"mean_area": 1, "mean_radius": '),
        ('"mean_radius": ', '"mean_radius": -'),
        ('"mean_radius": ', '"mean_radius": null, "x": '),
        ('"mean_radius": ', '"id": "a", "mean_radius": '),
        ('"mean_radius": ', '"mean_radius": 1e999, "mean_radius": '),
    ],
)
def test_a_list_with_a_doubtful_record_is_left_to_the_strict_parser(
    reference: tuple[np.ndarray, np.ndarray], position: int, old: str, new: str
) -> None:
    records = [
        json.dumps(dict(zip(SCHEMA.names, row, strict=True))) for row in reference[0][:60].tolist()
    ]
    records[position] = records[position].replace(old, new, 1)
    assert FAST.parse_list(f"[{','.join(records)}]".encode()) is None
    assert FAST.parse_list(b"[]") is None
