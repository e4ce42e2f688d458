"""Features that may be missing, in both kinds of tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bc_pipeline.errors import SchemaMismatch
from bc_pipeline.row_rule import RowRule
from bc_pipeline.schema import Feature, FeatureSchema
from bc_pipeline.tables.reader import open_table

SCHEMA = FeatureSchema(
    (
        Feature("dose", "mg", 0, 10),
        Feature("age", "years", 18, 120, optional=True),
        Feature("onset", "years", 0, 120, optional=True),
    ),
    (RowRule("onset_before_age", "at_least", "age", "onset"),),
)
NAN = float("nan")


def read(path: Path) -> tuple[np.ndarray, dict[int, list[str]]]:
    with open_table(path, SCHEMA, None, read_labels=False) as reader:
        (block,) = list(reader)
    return block.values, {
        row: [f"{defect.column}: {defect.reason}" for defect in defects]
        for row, defects in block.defects.items()
    }


def write(folder: Path, kind: str, table: dict[str, list[float | None]]) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table(table), path)
    else:
        cells = [
            ["" if cell is None else f"{cell:g}" for cell in row]
            for row in zip(*table.values(), strict=True)
        ]
        path.write_text("\n".join(",".join(row) for row in [list(table), *cells]) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_optional_value_may_be_missing_and_another_may_not(tmp_path: Path, kind: str) -> None:
    path = write(
        tmp_path,
        kind,
        {
            "dose": [1.0, 2.0, None, 4.0, 5.0],
            "age": [50.0, None, 60.0, 7.0, 30.0],
            "onset": [40.0, None, None, None, 31.0],
        },
    )
    values, defects = read(path)
    expected = [[1, 50, 40], [2, NAN, NAN], [NAN, 60, NAN], [4, 7, NAN], [5, 30, 31]]
    np.testing.assert_array_equal(values, expected)
    assert defects == {
        2: ["dose: is empty"],
        3: ["age: is outside the physical range 18 to 120 years"],
        4: ["age: age is below onset"],
    }


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_column_of_an_optional_feature_may_be_absent(tmp_path: Path, kind: str) -> None:
    values, defects = read(write(tmp_path, kind, {"age": [50.0, 51.0], "dose": [1.0, 2.0]}))
    np.testing.assert_array_equal(values, [[1, 50, NAN], [2, 51, NAN]])
    assert defects == {}
    with pytest.raises(SchemaMismatch) as refusal:
        read(write(tmp_path, kind, {"age": [50.0], "onset": [20.0]}))
    assert [defect.column for defect in refusal.value.defects] == ["dose"]


def test_what_is_no_number_is_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("dose,age,onset\n1,unknown,\n2,inf,3\n3, ,4\n")
    values, defects = read(path)
    assert defects == {0: ["age: is not a number"], 1: ["age: is not a finite number"]}
    np.testing.assert_array_equal(values[2], [3, NAN, 4])


def test_the_fingerprint_of_a_schema_tells_what_is_optional() -> None:
    required = FeatureSchema(
        tuple(
            Feature(each.name, each.unit, each.minimum, each.maximum) for each in SCHEMA.features
        ),
        SCHEMA.rules,
    )
    assert required.fingerprint != SCHEMA.fingerprint
    assert FeatureSchema.from_dict(SCHEMA.to_dict()) == SCHEMA
    assert not any("optional" in feature for feature in required.to_dict()["features"])
