"""The files that are read, and those that are not: every dialect and every fault."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from bc_pipeline.errors import Defect, FileRefused, PipelineError, SchemaMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.blocks import NO_CODE, Block
from bc_pipeline.tables.numbers import DECIMAL_COMMA
from bc_pipeline.tables.reader import open_table

Reference = tuple[np.ndarray, np.ndarray]
SIZES = (64, 1000, 1 << 20)
MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)


def kaggle_names() -> list[str]:
    return [
        f"{measure.replace('concave_points', 'concave points')}_{statistic}"
        for statistic in ("mean", "se", "worst")
        for measure in MEASURES
    ]


@cache
def sklearn_names() -> list[str]:
    from sklearn.datasets import load_breast_cancer

    return [str(name) for name in load_breast_cancer().feature_names]


def uci_names() -> list[str]:
    return [f"{measure}{number}" for number in (1, 2, 3) for measure in MEASURES]


def canonical_names() -> list[str]:
    return [name.replace(" ", "_") for name in sklearn_names()]


def text(values: np.ndarray) -> list[list[str]]:
    return [[repr(float(value)) for value in row] for row in values]


def letters(codes: np.ndarray) -> list[str]:
    return ["M" if code == 0 else "B" for code in codes]


def ids(count: int) -> list[str]:
    return [str(842000 + row) for row in range(count)]


def lines(header: Sequence[str] | None, rows: Sequence[Sequence[str]], end: str = "\n") -> bytes:
    every = [header, *rows] if header is not None else rows
    return "".join(",".join(cells) + end for cells in every).encode()


def kaggle(values: np.ndarray, codes: np.ndarray, tail: str = "") -> bytes:
    """Quoted header that ends in a comma; the rows end in `tail`."""
    header = ",".join(f'"{name}"' for name in ("id", "diagnosis", *kaggle_names())) + ","
    rows = [
        f"{name},{letter}," + ",".join(row) + tail
        for name, letter, row in zip(ids(len(codes)), letters(codes), text(values), strict=True)
    ]
    return "\n".join([header, *rows, ""]).encode()


def labelled(
    names: Sequence[str], values: np.ndarray, words: Sequence[str], end: str = "\n"
) -> bytes:
    rows = [
        [name, *row, word]
        for name, row, word in zip(ids(len(words)), text(values), words, strict=True)
    ]
    return lines(["id", *names, "diagnosis"], rows, end)


def headerless_uci(values: np.ndarray, codes: np.ndarray) -> bytes:
    rows = [
        [name, letter, *row]
        for name, letter, row in zip(ids(len(codes)), letters(codes), text(values), strict=True)
    ]
    return lines(None, rows)


def as_parquet(columns: dict[str, object], **options: object) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def parquet_columns(values: np.ndarray, codes: np.ndarray) -> dict[str, object]:
    columns: dict[str, object] = {"id": pa.array(ids(len(codes)))}
    columns |= dict(zip(sklearn_names(), values.T, strict=True))
    return columns | {"target": pa.array(codes)}


def shuffled(values: np.ndarray, codes: np.ndarray) -> bytes:
    order = np.random.default_rng(3).permutation(30)
    return labelled([sklearn_names()[i] for i in order], values[:, order], letters(codes))


@dataclass(frozen=True)
class Good:
    name: str
    dialect: str
    make: Callable[[np.ndarray, np.ndarray], bytes]
    has_ids: bool = True
    has_labels: bool = True
    first_line: int = 2


GOOD = (
    Good("kaggle, rows without the last comma", "kaggle", kaggle),
    Good("kaggle, rows with the last comma", "kaggle", lambda v, c: kaggle(v, c, ",")),
    Good("scikit-learn", "sklearn", lambda v, c: labelled(sklearn_names(), v, letters(c))),
    Good("columns in any order", "sklearn", shuffled),
    Good("canonical", "canonical", lambda v, c: labelled(canonical_names(), v, letters(c))),
    Good("UCI names", "uci", lambda v, c: labelled(uci_names(), v, letters(c))),
    Good(
        "names of two dialects",
        "mixed",
        lambda v, c: labelled(sklearn_names()[:10] + kaggle_names()[10:], v, letters(c)),
    ),
    Good(
        "capitals and blanks in names",
        "sklearn",
        lambda v, c: labelled([f" {n.title()} " for n in sklearn_names()], v, letters(c)),
    ),
    Good("wdbc.data", "headerless", headerless_uci, first_line=1),
    Good(
        "wdbc.data with a last comma",
        "headerless",
        lambda v, c: headerless_uci(v, c).replace(b"\n", b",\n"),
        first_line=1,
    ),
    Good(
        "30 bare values",
        "headerless",
        lambda v, _: lines(None, text(v)),
        has_ids=False,
        has_labels=False,
        first_line=1,
    ),
    Good(
        "30 bare values and the label",
        "headerless",
        lambda v, c: lines(None, [[*row, str(code)] for row, code in zip(text(v), c, strict=True)]),
        has_ids=False,
        first_line=1,
    ),
    Good(
        "labels as 0 and 1",
        "sklearn",
        lambda v, c: labelled(sklearn_names(), v, [str(code) for code in c]),
    ),
    Good(
        "labels as words of any case",
        "sklearn",
        lambda v, c: labelled(sklearn_names(), v, [("Malignant", "BENIGN ")[i] for i in c]),
    ),
    Good("no labels", "canonical", lambda v, _: lines(canonical_names(), text(v)), False, False),
    Good("CRLF", "sklearn", lambda v, c: labelled(sklearn_names(), v, letters(c), end="\r\n")),
    Good("CR alone", "sklearn", lambda v, c: labelled(sklearn_names(), v, letters(c), end="\r")),
    Good("UTF-8 mark", "kaggle", lambda v, c: b"\xef\xbb\xbf" + kaggle(v, c)),
    Good("no last line end", "kaggle", lambda v, c: kaggle(v, c).rstrip(b"\n")),
    Good("blank lines at the end", "kaggle", lambda v, c: kaggle(v, c) + b"\n\r\n\n"),
    Good("blank lines at the top", "kaggle", lambda v, c: b"\n\n" + kaggle(v, c), first_line=4),
    Good(
        "every cell quoted",
        "canonical",
        lambda v, c: b"\n".join(
            b",".join(b'"' + cell + b'"' for cell in line.split(b","))
            for line in labelled(canonical_names(), v, letters(c)).splitlines()
        ),
    ),
    Good(
        "blanks around numbers",
        "canonical",
        lambda v, c: labelled(canonical_names(), v, letters(c)).replace(b",", b" ,\t"),
    ),
    Good("Parquet", "parquet", lambda v, c: as_parquet(parquet_columns(v, c)), first_line=1),
    Good(
        "Parquet in small groups, compressed",
        "parquet",
        lambda v, c: as_parquet(parquet_columns(v, c), row_group_size=10, compression="zstd"),
        first_line=1,
    ),
    Good(
        "Parquet with letters and whole-number ids",
        "parquet",
        lambda v, c: as_parquet(
            parquet_columns(v, c)
            | {
                "id": pa.array([int(name) for name in ids(len(c))]),
                "target": pa.array(letters(c)).dictionary_encode(),
            }
        ),
        first_line=1,
    ),
)


def read(path: Path, problem: Problem, read_labels: bool, block_bytes: int) -> Block:
    with open_table(
        path, problem.schema, problem.labels, read_labels=read_labels, block_bytes=block_bytes
    ) as reader:
        blocks = list(reader)
        assert reader.rows_read == sum(len(block) for block in blocks)
        assert reader.bytes_done == reader.bytes_total == path.stat().st_size
    defects: dict[int, list[Defect]] = {}
    count = 0
    for block in blocks:
        defects |= {count + row: found for row, found in block.defects.items()}
        count += len(block)
    codes = [block.codes for block in blocks if block.codes is not None]
    return Block(
        np.concatenate([block.lines for block in blocks]),
        [name for block in blocks for name in block.ids],
        np.concatenate([block.values for block in blocks]),
        np.concatenate(codes) if codes else None,
        defects,
    )


@pytest.mark.parametrize("block_bytes", SIZES)
@pytest.mark.parametrize("good", GOOD, ids=lambda good: good.name)
def test_every_dialect_gives_the_same_values_and_codes(
    good: Good, block_bytes: int, wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    values, codes = (part[:24] for part in reference)
    path = tmp_path / "table"
    path.write_bytes(good.make(values, codes))

    table = read(path, wdbc, good.has_labels, block_bytes)

    with open_table(path, wdbc.schema, wdbc.labels, read_labels=good.has_labels) as reader:
        assert reader.columns.dialect == good.dialect
        assert (reader.columns.identifier is not None) is good.has_ids
    assert table.defects == {}
    assert np.array_equal(table.values, values)
    assert table.lines.tolist() == list(range(good.first_line, good.first_line + 24))
    assert table.ids == (ids(24) if good.has_ids else [None] * 24)
    if good.has_labels:
        assert table.codes is not None
        assert np.array_equal(table.codes, codes)
    else:
        assert table.codes is None


@pytest.mark.parametrize("good", GOOD, ids=lambda good: good.name)
def test_labels_are_ignored_unless_requested(
    good: Good, wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    values, codes = (part[:5] for part in reference)
    path = tmp_path / "table"
    path.write_bytes(good.make(values, codes))

    table = read(path, wdbc, False, 1 << 20)

    assert table.codes is None
    assert np.array_equal(table.values, values)


def test_the_reference_data_round_trips(
    wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(kaggle(*reference))

    table = read(path, wdbc, True, 1 << 20)

    assert table.codes is not None
    assert np.array_equal(table.values, reference[0])
    assert np.array_equal(table.codes, reference[1])


# Faults of one row ------------------------------------------------------------------------


@dataclass(frozen=True)
class BadRow:
    """A change to the cells of line 4 (id, diagnosis, 30 values), and what is said of it."""

    name: str
    change: Callable[[list[str]], list[str]]
    defects: tuple[tuple[str | None, str], ...]


def cell(position: int, value: str) -> Callable[[list[str]], list[str]]:
    return lambda cells: [*cells[:position], value, *cells[position + 1 :]]


NOT_A_NUMBER = (("mean_texture", "is not a number"),)
NOT_FINITE = (("mean_texture", "is not a finite number"),)
BAD_ROWS = (
    BadRow("one field too few", lambda c: c[:-1], ((None, "has 31 fields instead of 32"),)),
    BadRow(
        "two fields too many", lambda c: [*c, "1", ""], ((None, "has 34 fields instead of 32"),)
    ),
    BadRow("blank", lambda _: [], ((None, "is blank"),)),
    BadRow("spaces only", lambda _: ["  "], ((None, "is blank"),)),
    BadRow("word", cell(3, "high"), NOT_A_NUMBER),
    BadRow("nan", cell(3, "NaN"), NOT_A_NUMBER),
    BadRow("NA", cell(3, "NA"), NOT_A_NUMBER),
    BadRow("infinity", cell(3, "-inf"), NOT_FINITE),
    BadRow("infinity as a word", cell(3, "Infinity"), NOT_FINITE),
    BadRow("too large for a float64", cell(3, "1e400"), NOT_FINITE),
    BadRow("hexadecimal", cell(3, "0x1F"), NOT_A_NUMBER),
    BadRow("underscore", cell(3, "1_0"), NOT_A_NUMBER),
    BadRow("unit", cell(3, "17 px"), NOT_A_NUMBER),
    BadRow("decimal comma", cell(3, '"17,5"'), (("mean_texture", DECIMAL_COMMA),)),
    BadRow("two signs", cell(3, "+-17.5"), NOT_A_NUMBER),
    BadRow("Arabic digits", cell(3, "١٧"), NOT_A_NUMBER),
    BadRow("truth value", cell(3, "true"), NOT_A_NUMBER),
    BadRow("empty cell", cell(3, ""), (("mean_texture", "is empty"),)),
    BadRow("quoted empty cell", cell(3, '""'), (("mean_texture", "is empty"),)),
    BadRow("spaces in a cell", cell(3, "  "), (("mean_texture", "is empty"),)),
    BadRow("last cell empty", cell(31, ""), (("worst_fractal_dimension", "is empty"),)),
    BadRow(
        "outside the physical range",
        cell(3, "-1"),
        (("mean_texture", "is outside the physical range 2 to 80 grey levels"),),
    ),
    BadRow(
        "broken row rule",
        cell(23, "9.0"),
        (("worst_texture", "worst_texture is below mean_texture"),),
    ),
    BadRow("unknown label", cell(1, "X"), (("diagnosis", "is not malignant or benign"),)),
    BadRow("label 2", cell(1, "2"), (("diagnosis", "is not malignant or benign"),)),
    BadRow("empty label", cell(1, ""), (("diagnosis", "is empty"),)),
    BadRow("empty id", cell(0, " "), (("id", "is empty"),)),
    BadRow("overlong id", cell(0, "7" * 201), (("id", "is over 200 characters long"),)),
    BadRow("unprintable id", cell(0, "a\x1bb"), (("id", "holds unprintable characters"),)),
    BadRow(
        "several at once",
        lambda c: cell(1, "?")(cell(3, "high")(cell(5, "")(cell(21, "400")(c)))),
        (
            ("diagnosis", "is not malignant or benign"),
            ("mean_texture", "is not a number"),
            ("mean_area", "is empty"),
            (
                "fractal_dimension_error",
                "is outside the physical range 0 to 0.2",
            ),
        ),
    ),
)


@pytest.mark.parametrize("block_bytes", SIZES)
@pytest.mark.parametrize("quoted", [False, True], ids=["plain", "one quoted id"])
@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda bad: bad.name)
def test_a_bad_row_has_its_line_and_column(
    bad: BadRow, quoted: bool, block_bytes: int, wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    values, codes = (part[:6] for part in reference)
    content = headerless_uci(values, codes).decode().splitlines()
    content[2] = ",".join(bad.change(content[2].split(",")))
    if quoted:
        content[1] = '"8,4""2"' + content[1][content[1].index(",") :]
    header = ",".join(["id", "diagnosis", *kaggle_names()])
    path = tmp_path / "bad.csv"
    path.write_text("\n".join([header, *content]))

    table = read(path, wdbc, True, block_bytes)

    assert len(table) == 6
    assert {row: set(found) for row, found in table.defects.items()} == {
        2: {Defect(reason, 4, column) for column, reason in bad.defects}
    }
    sound = [0, 1, 3, 4, 5]
    assert np.flatnonzero(table.accepted).tolist() == sound
    assert np.array_equal(table.values[sound], values[sound])
    assert table.codes is not None
    assert np.array_equal(table.codes[sound], codes[sound])
    assert table.lines.tolist() == [2, 3, 4, 5, 6, 7]
    assert table.ids[1] == ('8,4"2' if quoted else "842001")
    label_is_bad = any(column in {"diagnosis", None} for column, _ in bad.defects)
    assert table.codes[2] == (NO_CODE if label_is_bad else codes[2])


def test_text_in_the_last_column_without_a_name_is_a_defect(
    wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    values, codes = (part[:4] for part in reference)
    path = tmp_path / "bad.csv"
    path.write_bytes(kaggle(values, codes, ",").rstrip(b"\n") + b"seen\n")

    table = read(path, wdbc, True, 1 << 20)

    assert table.defects == {
        3: [Defect("column 33 has no name, and is neither empty nor a running number", line=5)]
    }


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        (7, None, "is empty"),
        (7, float("nan"), "is not a number"),
        (7, float("inf"), "is not a finite number"),
        (7, 1e6, "is outside the physical range 2 to 60 px"),
    ],
)
def test_a_bad_parquet_row_has_its_number_and_column(
    position: int,
    value: float | None,
    reason: str,
    wdbc: Problem,
    reference: Reference,
    tmp_path: Path,
) -> None:
    values, codes = (part[:20] for part in reference)
    columns = parquet_columns(values, codes)
    radius: list[float | None] = values[:, 0].tolist()
    radius[position] = value
    path = tmp_path / "bad.parquet"
    path.write_bytes(
        as_parquet(
            columns
            | {
                "mean radius": pa.array(radius, pa.float64(), from_pandas=False),
                "target": pa.array([None, 7, *codes[2:]]),
                "id": pa.array([*ids(18), None, "x"]),
            }
        )
    )

    table = read(path, wdbc, True, 1000)

    assert table.defects == {
        0: [Defect("is empty", 1, "diagnosis")],
        1: [Defect("is not malignant or benign", 2, "diagnosis")],
        7: [Defect(reason, 8, "mean_radius")],
        18: [Defect("is empty", 19, "id")],
    }


# Faults of the whole file -----------------------------------------------------------------


@dataclass(frozen=True)
class BadFile:
    name: str
    make: Callable[[np.ndarray, np.ndarray], bytes]
    error: type[PipelineError]
    defects: tuple[Defect, ...]
    file: str = "table.csv"


def renamed(**names: str) -> Callable[[np.ndarray, np.ndarray], bytes]:
    def make(values: np.ndarray, codes: np.ndarray) -> bytes:
        spelt = [names.get(name, name) for name in canonical_names()]
        return labelled(spelt, values, letters(codes))

    return make


def line_changed(
    number: int, change: Callable[[bytes], bytes]
) -> Callable[[np.ndarray, np.ndarray], bytes]:
    def make(values: np.ndarray, codes: np.ndarray) -> bytes:
        content = kaggle(values, codes).split(b"\n")
        content[number - 1] = change(content[number - 1])
        return b"\n".join(content)

    return make


def zipped(values: np.ndarray, codes: np.ndarray) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("data.csv", kaggle(values, codes))
    return sink.getvalue()


def typed(**columns: object) -> Callable[[np.ndarray, np.ndarray], bytes]:
    return lambda v, c: as_parquet(parquet_columns(v, c) | columns)


DAMAGED = (Defect("is a truncated or damaged Parquet file"),)
TOO_LONG = "is longer than 65536 bytes: a huge field, or not a table"
BAD_FILES = (
    BadFile("empty", lambda *_: b"", FileRefused, (Defect("is empty"),)),
    BadFile("blank lines only", lambda *_: b"\n\r\n\n", FileRefused, (Defect("is empty"),)),
    BadFile(
        "header only",
        lambda v, c: kaggle(v[:0], c[:0]),
        FileRefused,
        (Defect("has a header and no rows"),),
    ),
    BadFile(
        "NUL",
        line_changed(5, lambda line: line.replace(b".", b"\0", 1)),
        FileRefused,
        (Defect("holds a NUL byte: the file is binary or UTF-16 text", line=5),),
    ),
    BadFile(
        "not UTF-8",
        line_changed(3, lambda line: b"M\xfcller" + line),
        FileRefused,
        (Defect("is not UTF-8 text", line=3),),
    ),
    BadFile(
        "UTF-16",
        lambda v, c: kaggle(v, c).decode().encode("utf-16"),
        FileRefused,
        (Defect("is UTF-16 or UTF-32 text"),),
    ),
    BadFile(
        "UTF-16 without mark",
        lambda v, c: kaggle(v, c).decode().encode("utf-16-le"),
        FileRefused,
        (Defect("holds a NUL byte: the file is binary or UTF-16 text", line=1),),
    ),
    BadFile("zip", zipped, FileRefused, (Defect("is a zip archive or an Excel workbook"),)),
    BadFile(
        "gzip",
        lambda v, c: gzip.compress(kaggle(v, c)),
        FileRefused,
        (Defect("is compressed with gzip"),),
    ),
    BadFile(
        "semicolons",
        lambda v, c: kaggle(v, c).replace(b",", b";"),
        FileRefused,
        (Defect("separates its fields by semicolons", line=1),),
    ),
    BadFile(
        "semicolons and decimal commas without header",
        lambda v, c: headerless_uci(v, c).replace(b",", b";").replace(b".", b","),
        FileRefused,
        (Defect("separates its fields by semicolons", line=1),),
    ),
    BadFile(
        "tabs",
        lambda v, c: kaggle(v, c).replace(b",", b"\t"),
        FileRefused,
        (Defect("separates its fields by tabs", line=1),),
    ),
    BadFile(
        "tabs without header",
        lambda v, c: headerless_uci(v, c).replace(b",", b"\t"),
        FileRefused,
        (Defect("separates its fields by tabs", line=1),),
    ),
    BadFile(
        "huge field",
        line_changed(4, lambda line: line.replace(b",", b"," + b"9" * 70_000, 1)),
        FileRefused,
        (Defect(TOO_LONG, line=4),),
    ),
    BadFile(
        "one line without end", lambda *_: b"1," * 100_000, FileRefused, (Defect(TOO_LONG, line=1),)
    ),
    BadFile(
        "200,000 columns",
        lambda *_: b",".join(b"c%d" % i for i in range(200_000)) + b"\n1\n",
        FileRefused,
        (Defect(TOO_LONG, line=1),),
    ),
    BadFile(
        "2,000 columns",
        lambda *_: b"id," + b",".join(b"c%d" % i for i in range(1_999)) + b"\n1\n",
        FileRefused,
        (Defect("has 2000 columns; 1030 is the maximum"),),
    ),
    BadFile(
        "unclosed quote",
        line_changed(4, lambda line: b'"' + line),
        FileRefused,
        (Defect("opens a quote and does not close it on the line", line=4),),
    ),
    BadFile(
        "unclosed quote in the header",
        line_changed(1, lambda line: line.replace(b'"', b"", 1)),
        FileRefused,
        (Defect("opens a quote and does not close it on the line", line=1),),
    ),
    BadFile(
        "line end in quotes",
        line_changed(4, lambda line: b'"84\n2"' + line[6:]),
        FileRefused,
        (Defect("opens a quote and does not close it on the line", line=4),),
    ),
    BadFile(
        "quotes inside a field",
        line_changed(6, lambda line: b'8"4"2' + line[6:]),
        FileRefused,
        (Defect("has a quote inside a field", line=6),),
    ),
    BadFile(
        "text after a closing quote",
        line_changed(6, lambda line: b'"842" ' + line[6:]),
        FileRefused,
        (Defect("has a quote inside a field", line=6),),
    ),
    BadFile("missing file", lambda *_: b"", FileRefused, (), file="absent"),
    BadFile(
        "truncated Parquet",
        lambda v, c: as_parquet(parquet_columns(v, c))[:-200],
        FileRefused,
        DAMAGED,
    ),
    BadFile("Parquet of four bytes", lambda *_: b"PAR1", FileRefused, DAMAGED),
    BadFile(
        "Parquet with a damaged page",
        lambda v, c: (
            as_parquet(parquet_columns(v, c))[:4]
            + b"\xff" * 400
            + as_parquet(parquet_columns(v, c))[404:]
        ),
        FileRefused,
        DAMAGED,
    ),
    BadFile(
        "CSV named Parquet",
        kaggle,
        FileRefused,
        (Defect("is named Parquet and is not"),),
        file="table.Parquet",
    ),
    BadFile(
        "Parquet without rows",
        lambda v, c: as_parquet(parquet_columns(v[:0], c[:0])),
        FileRefused,
        (Defect("has no rows"),),
    ),
    BadFile(
        "misspelt, unknown, missing and repeated names, and no label, at once",
        lambda v, _: lines(
            [
                {
                    "mean_area": "mean_aera",
                    "mean_symmetry": "age",
                    "worst_area": "perimeter_mean",
                }.get(name, name)
                for name in canonical_names()
            ],
            text(v),
        ),
        SchemaMismatch,
        (
            Defect("is missing", column="diagnosis"),
            Defect("is not a feature; did you mean 'mean_area'?", column="mean_aera"),
            # "age" may be a value: only names made of the features' words are repeated.
            Defect("is not a feature", column="(column 9)"),
            Defect(
                "is given twice, as 'mean_perimeter' and 'perimeter_mean'", column="mean_perimeter"
            ),
            Defect("is missing", column="mean_area"),
            Defect("is missing", column="mean_symmetry"),
            Defect("is missing", column="worst_area"),
        ),
    ),
    BadFile(
        "one feature under two names",
        renamed(worst_area="radius_mean"),
        SchemaMismatch,
        (
            Defect("is given twice, as 'mean_radius' and 'radius_mean'", column="mean_radius"),
            Defect("is missing", column="worst_area"),
        ),
    ),
    BadFile(
        "two id and two label columns",
        lambda v, c: lines(
            ["id", "patient_id", "target", "diagnosis", *canonical_names()],
            [["1", "2", "M", "M", *row] for row in text(v)],
        ),
        SchemaMismatch,
        (
            Defect("is given twice, as 'id' and 'patient_id'", column="id"),
            Defect("is given twice, as 'target' and 'diagnosis'", column="diagnosis"),
        ),
    ),
    BadFile(
        "texts in a column without a name",
        lambda v, c: b"," + labelled(canonical_names(), v, letters(c)).replace(b"\n", b"\nrow,"),
        SchemaMismatch,
        (Defect("column 1 has no name, and is neither empty nor a running number"),),
    ),
    BadFile(
        "a number as a name is not repeated",
        renamed(worst_area="17.99"),
        SchemaMismatch,
        (
            Defect("is not a feature", column="(column 25)"),
            Defect("is missing", column="worst_area"),
        ),
    ),
    BadFile(
        "a long name is not repeated",
        renamed(worst_area="z" * 500),
        SchemaMismatch,
        (
            Defect("is not a feature", column="(column 25)"),
            Defect("is missing", column="worst_area"),
        ),
    ),
    BadFile(
        "bare values where labels are required",
        lambda v, _: lines(None, text(v)),
        SchemaMismatch,
        (Defect("is missing", column="diagnosis"),),
    ),
    BadFile(
        "no header and 29 columns",
        lambda v, _: lines(None, text(v[:, :29])),
        SchemaMismatch,
        (
            Defect(
                "has no header, and 29 columns: not 30 values, nor 30 values and a "
                "label, nor an id, a label and 30 values",
                line=1,
            ),
        ),
    ),
    BadFile(
        "Parquet of text",
        typed(**{"mean radius": pa.array(["17.9"] * 8)}),
        SchemaMismatch,
        (Defect("holds string, not numbers", column="mean_radius"),),
    ),
    BadFile(
        "Parquet with nested and truth values",
        typed(
            **{
                "mean radius": pa.array([[1.0]] * 8),
                "worst area": pa.array([True] * 8),
                "id": pa.array([1.5] * 8),
                "target": pa.array([True] * 8),
            }
        ),
        SchemaMismatch,
        (
            Defect("holds nested values, not numbers", column="mean_radius"),
            Defect("holds bool, not numbers", column="worst_area"),
            Defect("holds double, not text or whole numbers", column="id"),
            Defect("holds bool, not text or whole numbers", column="diagnosis"),
        ),
    ),
    BadFile(
        "Parquet with an extra column",
        typed(age=pa.array([50] * 8)),
        SchemaMismatch,
        (Defect("is not a feature", column="(column 33)"),),
    ),
)


@pytest.mark.parametrize("block_bytes", SIZES)
@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_a_bad_file_is_refused_with_every_reason(
    bad: BadFile, block_bytes: int, wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / bad.file
    if bad.file != "absent":
        path.write_bytes(bad.make(*(part[:8] for part in reference)))

    with pytest.raises(bad.error) as caught:
        read(path, wdbc, True, block_bytes)

    assert type(caught.value) is bad.error
    assert isinstance(caught.value, FileRefused | SchemaMismatch)
    assert caught.value.source == bad.file
    if bad.defects:
        assert caught.value.defects == bad.defects
    else:
        assert "No such file" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda v, c: headerless_uci(v, c).replace(b"\n", b",12.5,7\n"),
        lambda v, c: headerless_uci(v, c).replace(b",", b";").replace(b".", b","),
        lambda v, c: lines(
            None, [["Smith", "x", *(f"{cell}mm" for cell in row)] for row in text(v)]
        ),
    ],
    ids=["two columns too many", "semicolons", "no number at all"],
)
def test_no_value_of_a_patient_is_in_a_message(
    make: Callable[[np.ndarray, np.ndarray], bytes],
    wdbc: Problem,
    reference: Reference,
    tmp_path: Path,
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(make(*(part[:3] for part in reference)))

    with pytest.raises((FileRefused, SchemaMismatch)) as caught:
        read(path, wdbc, True, 1 << 20)

    message = f"{caught.value} {caught.value.to_dict()}"
    assert "17.99" not in message
    assert "17,99" not in message
    assert "Smith" not in message


# Rows alone and together --------------------------------------------------------------------

CELLS = ("", "nan", "-inf", "1e400", "1_0", "0x1", "abc", '"1.5"', " 1.5 ", ".5", "-1", "1e-400")
IDS = ("a b", " a ", "\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 201, "", '"a""b"', '"a,b"', "=1")


@given(data=st.data())
def test_a_row_is_read_among_others_as_it_is_read_alone(
    data: st.DataObject, wdbc: Problem, reference: Reference, tmp_path_factory: Any
) -> None:
    """Blocks without a defect take shorter ways; a row's neighbours must not matter to it."""
    names = wdbc.schema.names
    rows = [[f"p{row}", *map(repr, reference[0][row].tolist())] for row in range(12)]
    for row, column in data.draw(
        st.lists(st.tuples(st.integers(0, 11), st.integers(0, len(names))), max_size=6)
    ):
        rows[row][column] = data.draw(st.sampled_from(CELLS if column else IDS))
    for row in data.draw(st.lists(st.integers(0, 11), max_size=2)):
        rows[row] = rows[row][: data.draw(st.integers(1, len(names)))]
    header = ",".join(["id", *names])
    path = tmp_path_factory.mktemp("rows") / "in.csv"
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    together = read(path, wdbc, False, data.draw(st.sampled_from([1, 2000, 1 << 21])))
    assert together.lines.tolist() == list(range(2, 14))
    for index, row in enumerate(rows):
        path.write_text(f"{header}\n{','.join(row)}\n")
        alone = read(path, wdbc, False, 1 << 21)
        assert alone.ids[0] == together.ids[index]
        assert np.array_equal(alone.values[0], together.values[index], equal_nan=True)
        found = [(defect.column, defect.reason) for defect in together.defects.get(index, ())]
        assert [(defect.column, defect.reason) for defect in alone.defects.get(0, ())] == found
