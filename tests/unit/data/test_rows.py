from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.data.rows import LabelledRows, decode_rows, encode_rows, rows_digest
from bc_pipeline.errors import ArtifactCorrupt, SchemaMismatch
from bc_pipeline.problems.base import Problem

PATH = Path("rows.parquet")


def test_groups_are_stored_and_digested_where_there_are_any(
    wdbc: Problem, public_rows: LabelledRows
) -> None:
    rows = public_rows.take(range(3))
    grouped = replace(rows, groups=(rows.keys[0], "g", rows.keys[2]))

    again = decode_rows(wdbc, encode_rows(wdbc, grouped), PATH)

    assert again.groups == grouped.groups
    assert grouped.take([1]).groups == ("g",)
    assert decode_rows(wdbc, encode_rows(wdbc, rows), PATH).groups is None
    assert rows_digest("schema", grouped) != rows_digest("schema", rows)


def test_bytes_read_back_exactly(wdbc: Problem, public_rows: LabelledRows) -> None:
    rows = replace(public_rows, ids=tuple(f"p{n}" for n in range(569)))

    again = decode_rows(wdbc, encode_rows(wdbc, rows), PATH)

    assert (again.keys, again.ids) == (rows.keys, rows.ids)
    assert again.values.tobytes() == np.ascontiguousarray(rows.values).tobytes()
    assert (again.codes == rows.codes).all()


def test_same_rows_give_the_same_bytes(wdbc: Problem, public_rows: LabelledRows) -> None:
    assert encode_rows(wdbc, public_rows) == encode_rows(wdbc, public_rows)


def test_digest_depends_on_all_but_the_ids(public_rows: LabelledRows) -> None:
    rows = public_rows.take(range(3))
    nudged = rows.values.copy()
    nudged[1, 7] = np.nextafter(nudged[1, 7], 1.0)
    flipped = rows.codes.copy()
    flipped[2] = 1 - flipped[2]

    digests = [
        rows_digest("schema", rows),
        rows_digest("other schema", rows),
        rows_digest("schema", rows.take([0, 1])),
        rows_digest("schema", rows.take([1, 0, 2])),
        rows_digest("schema", replace(rows, keys=("a", "b", "c"))),
        rows_digest("schema", replace(rows, values=nudged)),
        rows_digest("schema", replace(rows, codes=flipped)),
    ]

    assert len(set(digests)) == len(digests)
    assert rows_digest("schema", replace(rows, ids=("x", "y", "z"))) == digests[0]


def test_digest_does_not_depend_on_the_layout_in_memory(public_rows: LabelledRows) -> None:
    rows = public_rows.take([0, 19, 20])
    fortran = replace(rows, values=np.asfortranarray(rows.values), codes=rows.codes.astype(">i8"))

    assert rows_digest("schema", fortran) == rows_digest("schema", rows)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_bytes_that_are_not_parquet_are_corrupt(wdbc: Problem, data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt) as caught:
        decode_rows(wdbc, data, PATH)

    assert caught.value.path == "rows.parquet"


def test_rows_of_another_schema_are_refused_with_every_missing_name(
    wdbc: Problem, public_rows: LabelledRows
) -> None:
    renamed = tuple(
        replace(feature, name=f"new_{feature.name}") if index < 2 else feature
        for index, feature in enumerate(wdbc.schema.features)
    )
    other = replace(wdbc, schema=replace(wdbc.schema, features=renamed, rules=()))

    with pytest.raises(SchemaMismatch) as caught:
        decode_rows(other, encode_rows(wdbc, public_rows), PATH)

    assert [defect.column for defect in caught.value.defects] == [
        "new_mean_radius",
        "new_mean_texture",
    ]
