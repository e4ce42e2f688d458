"""Labelled rows in memory, as Parquet bytes, and as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bc_pipeline.artifacts.files import read_verified
from bc_pipeline.errors import ArtifactCorrupt, Defect, SchemaMismatch
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems.base import Problem
from bc_pipeline.sample_metadata import SampleMetadata, take_metadata
from bc_pipeline.schema import row_key

KEY_COLUMN = "key"
GROUP_COLUMN = "group"
_METADATA_PREFIX = "metadata."


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows with their labels.

    Attributes
    ----------
    keys : tuple of str, length n
        `row_key` of the values: the identity of a row.
    ids : tuple of str, length n
        Id in the file, empty where the file has none; not part of a row's identity.
    values : array of float64, shape (n, n_features)
        In schema order.
    codes : array of int64, shape (n,)
        Outside label codes.
    groups : tuple of str, length n, optional
        Key of the first row of each row's group of near-twins; None where that is the row itself.
    metadata : SampleMetadata
        Declared columns beside the features.
    """

    keys: tuple[str, ...]
    ids: tuple[str, ...]
    values: np.ndarray
    codes: np.ndarray
    groups: tuple[str, ...] | None = field(default=None, kw_only=True)
    metadata: SampleMetadata = field(default_factory=dict, kw_only=True)

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
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
            metadata=take_metadata(self.metadata, chosen),
        )


def row_keys(values: np.ndarray) -> tuple[str, ...]:
    """`row_key` of each row.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
    """
    return tuple(row_key(row) for row in values.tolist())


def first_of_each(keys: Iterable[str]) -> list[int]:
    """Position of the first row of each key, in order."""
    positions: dict[str, int] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, position)
    return list(positions.values())


def read_only(array: np.ndarray) -> np.ndarray:
    """The array, made read-only: several callers share it."""
    array.flags.writeable = False
    return array


def rows_digest(schema_fingerprint: str, rows: LabelledRows) -> str:
    """SHA-256 of the schema, keys, label codes, exact values, groups and metadata.

    Ids are left out, because the id of a row depends on which file came first.
    """
    digest = hashlib.sha256(b"labelled-rows-1\0")
    digest.update(schema_fingerprint.encode() + b"\0")
    digest.update("\n".join(rows.keys).encode() + b"\0")
    digest.update(np.ascontiguousarray(rows.codes, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(rows.values, dtype="<f8").tobytes())
    if rows.groups is not None:
        digest.update("\n".join(rows.groups).encode())
    for name, cells in sorted(rows.metadata.items()):
        digest.update(b"\0" + "\n".join((name, *cells)).encode())
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
    if rows.groups is not None:
        columns[GROUP_COLUMN] = pa.array(rows.groups, pa.string())
    for name, cells in sorted(rows.metadata.items()):
        columns[_METADATA_PREFIX + name] = pa.array(cells, pa.string())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def read_rows(problem: Problem, path: Path, sha256: str) -> LabelledRows:
    """Read a file of `encode_rows` whose digest is known.

    Raises
    ------
    ArtifactCorrupt, SchemaMismatch
    """
    return decode_rows(problem, read_verified(path, sha256), path)


def decode_rows(problem: Problem, data: bytes, path: Path) -> LabelledRows:
    """Read what `encode_rows` wrote.

    Parameters
    ----------
    data : bytes
    path : Path
        File of the bytes, for messages.

    Raises
    ------
    ArtifactCorrupt
        Where the bytes are not Parquet.
    SchemaMismatch
        Where the rows were stored under a schema with other names; lists all missing ones.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactCorrupt(f"{path.name} cannot be read: {error}.", path=str(path)) from None
    expected = (KEY_COLUMN, ID_COLUMN, *problem.schema.names, problem.labels.column)
    missing = [name for name in expected if name not in table.column_names]
    if missing:
        raise SchemaMismatch(
            f"{path.name} was stored under another feature schema.",
            source=path.name,
            defects=tuple(Defect("is missing", column=name) for name in missing),
        )
    values = np.empty((table.num_rows, len(problem.schema.names)), dtype=np.float64)
    for index, name in enumerate(problem.schema.names):
        values[:, index] = table.column(name).to_numpy()
    has_groups = GROUP_COLUMN in table.column_names
    return LabelledRows(
        keys=tuple(table.column(KEY_COLUMN).to_pylist()),
        ids=tuple(table.column(ID_COLUMN).to_pylist()),
        values=values,
        codes=table.column(problem.labels.column).to_numpy().astype(np.int64),
        groups=tuple(table.column(GROUP_COLUMN).to_pylist()) if has_groups else None,
        metadata={
            name.removeprefix(_METADATA_PREFIX): tuple(table.column(name).to_pylist())
            for name in table.column_names
            if name.startswith(_METADATA_PREFIX)
        },
    )
