"""Rows whose id another row of the table has too.

Which of them is meant cannot be known, so none of them is scored. Whether an id is repeated shows
at the end of the table. A table without repeats is read once; one with repeats is read again, first
to find all of them, and then to score the other rows. Memory grows by 8 bytes a row: ids are
compared by 64-bit hashes, which are the same in every process. Of ten million different ids, two
have the same hash in one of 400,000 tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bc_pipeline.errors import Defect
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.table_reader import TableReader
from bc_pipeline.tables.text_column import TextColumn

_WORD = 8
REPEATED_ID = "stands for several rows of the file"


class IdsRepeated(Exception):
    """Rows of a table have the same id."""


class IdCheck:
    """Finds out while a table is read whether an id is repeated."""

    def __init__(self) -> None:
        # It grows in place: to join a list of arrays would take the memory of two.
        self._hashes = bytearray()

    def add(self, block: Block) -> None:
        self._hashes += hash_ids(block).data.cast("B")

    def require_unique(self) -> None:
        """Require that no id of the table was repeated.

        Raises
        ------
        IdsRepeated
        """
        if len(self.repeated()):
            raise IdsRepeated

    def repeated(self) -> np.ndarray:
        """Hashes of the repeated ids, sorted."""
        hashes = np.frombuffer(self._hashes, np.int64)
        hashes.sort()
        return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def hash_ids(block: Block) -> np.ndarray:
    """Hashes of the ids of a block, of accepted and rejected rows: array of int64."""
    hashes, has_id = _hash_rows(block.ids)
    return np.compress(has_id, hashes)


def find_repeated(reader: TableReader) -> np.ndarray:
    """Read a table to its end; hashes of its repeated ids, sorted."""
    check = IdCheck()
    for block in reader:
        check.add(block)
    return check.repeated()


def reject_repeated(block: Block, repeated: np.ndarray) -> None:
    """Add a defect to each row of a block whose id is repeated.

    Parameters
    ----------
    repeated : array of int64
        Hashes, sorted.
    """
    if not len(repeated):
        return
    hashes, has_id = _hash_rows(block.ids)
    nearest = np.searchsorted(repeated, hashes).clip(max=len(repeated) - 1)
    for row in np.flatnonzero(has_id & (repeated[nearest] == hashes)).tolist():
        defect = Defect(REPEATED_ID, int(block.lines[row]), ID_COLUMN)
        block.defects.setdefault(row, []).append(defect)


def _hash_rows(ids: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each row's id, and whether it has one.

    Python's own hash differs between processes, and Spark compares ids over all executors; pandas'
    needs an object for each id, and the import of pandas.

    Returns
    -------
    array of int64, shape (n,)
    array of bool, shape (n,)
    """
    column = TextColumn.of(ids)
    has_id = np.ones(len(column), dtype=bool)
    if column.array.null_count:
        has_id = column.array.is_valid().to_numpy(zero_copy_only=False)
    return _hash_texts(*column.utf8()), has_id


def _hash_texts(text: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """64-bit hashes of texts: their length, then word by word of 8 bytes, each mixed in.

    Parameters
    ----------
    text, starts : array
        As of `TextColumn.utf8`.
    """
    padded = np.concatenate([text, np.zeros(_WORD, np.uint8)])
    # The word that starts at each byte.
    words = np.ndarray(len(text) + 1, "<u8", padded, strides=(1,))
    lengths = np.diff(starts)
    hashes = _mixed(lengths.astype(np.uint64))
    rows = np.arange(len(lengths))
    for done in range(0, int(lengths.max(initial=0)), _WORD):
        rows = rows[lengths[rows] > done]
        unused = np.maximum(_WORD - (lengths[rows] - done), 0).astype(np.uint64)
        # The first byte is the lowest one: those beyond the text's end are shifted out.
        word = words[starts[rows] + done] << (unused * np.uint64(8))
        hashes[rows] = _mixed(hashes[rows] ^ word)
    return hashes.view(np.int64)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each number's SplitMix64 (Steele, Lea and Flood 2014): one to one, all bits mixed."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed_all: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return mixed_all
