from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import Defect, FileRefused, SchemaMismatch
from bc_pipeline.labels import Labels
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.schema import Feature, FeatureSchema
from bc_pipeline.tables.blocks import NO_CODE
from bc_pipeline.tables.reader import open_table

ROWS = st.sampled_from(
    ["1,l,1,2", "2,r,0.1,0.25", "3,x,1,2", "4,r,5,4", "5,l,,2", "6,l,inf,1e9", "", "  ", "7,l,1",
     "8,0,1,2,3", '"9",1,"-3",7', ",R,1,1", ",,,", "10,L,0x1,two"]
)  # fmt: skip

Rows = list[tuple[int, str | None, list[float], int, tuple[Defect, ...]]]


def read_rows(path: Path, schema: FeatureSchema, labels: Labels, block_bytes: int) -> Rows:
    rows: Rows = []
    with open_table(path, schema, labels, block_bytes=block_bytes) as reader:
        for block in reader:
            assert block.codes is not None
            rows += [
                (
                    int(block.lines[row]),
                    block.ids[row],
                    np.nan_to_num(block.values[row], nan=-99).tolist(),
                    int(block.codes[row]),
                    tuple(block.defects.get(row, ())),
                )
                for row in range(len(block))
            ]
        assert reader.rows_read == len(rows)
        assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return rows


@given(rows=st.lists(ROWS, min_size=1, max_size=25), block_bytes=st.integers(1, 200))
def test_rows_do_not_depend_on_the_block_size(
    tmp_path_factory: pytest.TempPathFactory,
    pair: FeatureSchema,
    sides: Labels,
    rows: list[str],
    block_bytes: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_text("\n".join(["id,side,low,high", "0,l,0,0", *rows, ""]))
    counted = len("\n".join(["0", *rows]).rstrip("\n").split("\n"))

    whole = read_rows(path, pair, sides, 1 << 20)

    assert read_rows(path, pair, sides, block_bytes) == whole
    assert [line for line, *_ in whole] == list(range(2, counted + 2))
    assert all(defect.line == line for line, *_, defects in whole for defect in defects)
    sound = {"1,l,1,2", "2,r,0.1,0.25", '"9",1,"-3",7'}
    assert [not defects for *_, defects in whole[1:]] == [
        row in sound for row in rows[: counted - 1]
    ]


def test_each_row_has_its_line_and_defects(
    pair: FeatureSchema, sides: Labels, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,side,low,high\n1,l,1,2\n\n2,r,5,4\n7,l,1\n,x,0x1,\n3,r,1,1\n")

    rows = read_rows(path, pair, sides, 1 << 20)

    assert rows == [
        (2, "1", [1, 2], 0, ()),
        (3, None, [-99, -99], NO_CODE, (Defect("is blank", 3),)),
        (4, "2", [5, 4], 1, (Defect("high is below low", 4, "high"),)),
        (5, None, [-99, -99], NO_CODE, (Defect("has 3 fields instead of 4", 5),)),
        (
            6,
            None,
            [-99, -99],
            NO_CODE,
            (
                Defect("is not a number", 6, "low"),
                Defect("is empty", 6, "high"),
                Defect("is empty", 6, "id"),
                Defect("is not left or right", 6, "side"),
            ),
        ),
        (7, "3", [1, 1], 1, ()),
    ]


def test_a_label_column_without_known_labels_is_an_unknown_column(
    pair: FeatureSchema, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("side,low,high\nl,1,2\n")

    with pytest.raises(SchemaMismatch) as caught:
        open_table(path, pair)

    assert caught.value.defects == (Defect("is not a feature", column="(column 1)"),)


def test_a_schema_of_one_feature(tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("only", "1", 0, 10),))
    path = tmp_path / "one.csv"
    path.write_text("only\n1\n11\n\n2.5\n")

    with open_table(path, schema) as reader:
        (block,) = reader

    assert block.values[block.accepted].tolist() == [[1], [2.5]]
    assert block.lines[~block.accepted].tolist() == [3, 4]


def test_a_late_defect_of_the_file_is_raised_while_reading(
    pair: FeatureSchema, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"low,high\n" + b"1,2\n" * 500 + b"1,\x002\n")

    with open_table(path, pair, block_bytes=100) as reader:
        blocks = iter(reader)
        assert next(blocks).defects == {}
        with pytest.raises(FileRefused) as caught:
            list(blocks)

    assert [defect.line for defect in caught.value.defects] == [502]


def test_a_refused_file_is_closed(
    pair: FeatureSchema, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    import gc

    path = tmp_path / "rows.csv"
    path.write_text("high\n1\n")

    with pytest.raises(SchemaMismatch):
        open_table(path, pair)
    gc.collect()

    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_a_file_that_cannot_be_opened_is_refused(
    name: str, pair: FeatureSchema, tmp_path: Path
) -> None:
    with pytest.raises(FileRefused) as caught:
        open_table(tmp_path / name, pair)

    assert ("is a folder" if name == "." else "cannot be opened") in str(caught.value)


@pytest.mark.parametrize(
    ("header", "remedy"),
    [
        (
            [name.removeprefix("mean_") for name in WDBC.schema.names] + ["diagnosis"],
            f"Expected: {', '.join(WDBC.schema.names[:3])} and so on, to worst_fractal_dimension.",
        ),
        (list(WDBC.schema.names), "Rows without labels can be scored, and not ingested."),
    ],
)
def test_missing_columns_come_with_the_names_that_are_expected(
    header: list[str], remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",".join(header) + "\n" + ",".join("1" for _ in header) + "\n")
    with pytest.raises(SchemaMismatch) as refused:
        open_table(path, WDBC.schema, WDBC.labels, read_labels=True)
    assert refused.value.remedy == remedy
