"""Labelled rows in memory, as Parquet bytes, and as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bc_pipeline.errors import ArtifactCorrupt, Defect, SchemaMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import ID_COLUMN, row_key

if TYPE_CHECKING:
    import numpy as np

KEY_COLUMN = "key"


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows with their labels.

    Attributes
    ----------
    keys : tuple of str, length n
        `row_key` of the values: the identity of a row.
    ids : tuple of str, length n
        The file's id, an attribute only; empty where the file had none.
    values : array of float64, shape (n, n_features)
        In schema order.
    codes : array of int64, shape (n,)
        Outside label codes.
    """

    keys: tuple[str, ...]
    ids: tuple[str, ...]
    values: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, index: Iterable[int]) -> LabelledRows:
        """The rows at these positions, in this order."""
        chosen = list(index)
        return LabelledRows(
            keys=tuple(self.keys[i] for i in chosen),
            ids=tuple(self.ids[i] for i in chosen),
            values=self.values[chosen],
            codes=self.codes[chosen],
        )


def row_keys(values: np.ndarray) -> tuple[str, ...]:
    """`row_key` of each row.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
    """
    return tuple(row_key(row) for row in values.tolist())


def join_rows(parts: list[LabelledRows]) -> LabelledRows:
    """Rows of several parts, one after the other; there must be at least one part."""
    import numpy as np

    return LabelledRows(
        keys=tuple(key for part in parts for key in part.keys),
        ids=tuple(name for part in parts for name in part.ids),
        values=np.concatenate([part.values for part in parts]),
        codes=np.concatenate([part.codes for part in parts]),
    )


def rows_digest(schema_fingerprint: str, rows: LabelledRows) -> str:
    """SHA-256 of the schema, keys, label codes and exact values; ids do not count.

    A patient's id depends on which file told it first; the science does not.
    """
    import numpy as np

    digest = hashlib.sha256(b"labelled-rows-1\0")
    digest.update(schema_fingerprint.encode() + b"\0")
    digest.update("\n".join(rows.keys).encode() + b"\0")
    digest.update(np.ascontiguousarray(rows.codes, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(rows.values, dtype="<f8").tobytes())
    return digest.hexdigest()


def encode_rows(problem: Problem, rows: LabelledRows) -> bytes:
    """Parquet bytes; the same rows give the same bytes with one version of pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        KEY_COLUMN: pa.array(rows.keys, pa.string()),
        ID_COLUMN: pa.array(rows.ids, pa.string()),
    }
    for index, name in enumerate(problem.schema.names):
        columns[name] = pa.array(rows.values[:, index], pa.float64())
    columns[problem.labels.column] = pa.array(rows.codes, pa.int64())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode_rows(problem: Problem, data: bytes, path: Path) -> LabelledRows:
    """Read what `encode_rows` wrote.

    Parameters
    ----------
    data : bytes
    path : Path
        Where they stand, for messages.

    Raises
    ------
    ArtifactCorrupt
        Where the bytes are no Parquet.
    SchemaMismatch
        Where the rows were stored under a schema with other names; lists all that miss.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactCorrupt(f"{path.name} cannot be read: {error}.", path=str(path)) from None
    wanted = (KEY_COLUMN, ID_COLUMN, *problem.schema.names, problem.labels.column)
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise SchemaMismatch(
            f"{path.name} was stored under another feature schema.",
            source=path.name,
            defects=tuple(Defect("is missing", column=name) for name in missing),
        )
    values = np.empty((table.num_rows, len(problem.schema.names)), dtype=np.float64)
    for index, name in enumerate(problem.schema.names):
        values[:, index] = table.column(name).to_numpy()
    return LabelledRows(
        keys=tuple(table.column(KEY_COLUMN).to_pylist()),
        ids=tuple(table.column(ID_COLUMN).to_pylist()),
        values=values,
        codes=table.column(problem.labels.column).to_numpy().astype(np.int64),
    )
