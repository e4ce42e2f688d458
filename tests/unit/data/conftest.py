"""Landed files made of the public rows."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.clock import parse_time
from bc_pipeline.data.rows import LabelledRows, row_keys
from bc_pipeline.problems.base import Problem, Reference

MakeFile = Callable[..., Path]


@pytest.fixture
def make_file(tmp_path: Path, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> MakeFile:
    """Write a labelled CSV of some public rows, with its time of arrival.

    ``cells`` replaces single cells, by (position in the file, column name); ``decimals`` rounds
    the values.
    """
    values, codes = reference

    def make(
        name: str,
        rows: Sequence[int],
        *,
        folder: Path | None = None,
        arrived: str = "2026-11-01T00:00:00Z",
        ids: Sequence[str] | None = None,
        cells: dict[tuple[int, str], str] | None = None,
        decimals: int | None = None,
    ) -> Path:
        written = values if decimals is None else np.round(values, decimals)
        header = [*wdbc.schema.names, "diagnosis"]
        table = [[*map(repr, written[row].tolist()), "MB"[codes[row]]] for row in rows]
        if ids is not None:
            header = ["id", *header]
            table = [[one, *cells_] for one, cells_ in zip(ids, table, strict=True)]
        for (position, column), text in (cells or {}).items():
            table[position][header.index(column)] = text
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([header, *table])
        path = (folder or tmp_path / "incoming") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(out.getvalue())
        moment = parse_time(arrived).timestamp()
        os.utime(path, (moment, moment))
        return path

    return make


@pytest.fixture
def kaggle_file(tmp_path: Path, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Path:
    """The public rows as Kaggle has them: own ids, quoted header, trailing comma."""
    names = [next(a for a in f.aliases if "_" in a) for f in wdbc.schema.features]
    names = [name.replace("concave_points", "concave points") for name in names]
    lines = [",".join(f'"{name}"' for name in ("id", "diagnosis", *names)) + ","]
    for row, (values, code) in enumerate(zip(*reference, strict=True)):
        cells = [str(842302 + row), "MB"[code], *(repr(v) for v in values.tolist())]
        lines.append(",".join(cells))
    path = tmp_path / "kaggle.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def public_rows(reference: tuple[np.ndarray, np.ndarray]) -> LabelledRows:
    """The public rows in memory, without ids."""
    values, codes = reference
    return LabelledRows(row_keys(values), ("",) * len(values), values, codes.astype(np.int64))


@pytest.fixture
def toy(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Problem:
    """Another problem, of ten public rows, with a holdout of half."""
    values, codes = reference
    ten = Reference(values[:10], codes[:10])
    return replace(
        wdbc,
        name="toy",
        load_reference=lambda: ten,
        split=replace(wdbc.split, holdout_share=0.5),
    )
