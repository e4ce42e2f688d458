"""Schemas of 20,000 features, as expression arrays have, are read by every parser of requests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bc_pipeline.schema import Feature, FeatureSchema
from bc_pipeline.serving.request_parsing.fast_record import FastRecordParser, Sample
from bc_pipeline.serving.request_parsing.mlflow_request import read_csv, read_table
from bc_pipeline.serving.request_parsing.record import RecordParser

WIDE = FeatureSchema(tuple(Feature(f"probe_{n:05d}_at", "log2", 0, 18) for n in range(20_000)))
ROW = np.random.default_rng(7).uniform(2, 14, 20_000).round(3).tolist()
RECORD = dict(zip(WIDE.names, ROW, strict=True))


def test_json_records() -> None:
    body = json.dumps(RECORD).encode()
    expected = RecordParser(WIDE).parse(body)
    assert isinstance(expected, Sample)
    assert list(expected.values) == ROW
    assert FastRecordParser(WIDE).parse(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(WIDE.names), "data": [ROW]}},
        {"dataframe_records": [RECORD]},
        {"inputs": {name: [value] for name, value in RECORD.items()}},
        {"instances": [ROW]},
    ],
    ids=lambda body: str(next(iter(body))),
)
def test_mlflow_tables(body: dict[str, Any]) -> None:
    (sample,) = read_table(json.dumps(body).encode(), WIDE)
    assert list(sample.values) == ROW


def test_csv_tables() -> None:
    text = ",".join(WIDE.names) + "\n" + ",".join(map(str, ROW)) + "\n"
    (sample,) = read_csv(text.encode(), WIDE)
    assert list(sample.values) == ROW
