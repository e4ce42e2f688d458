"""All rows of a labelled file in memory, the bad ones included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bc_pipeline.data.rows import LabelledRows, row_keys
from bc_pipeline.errors import Defect, FileRefused
from bc_pipeline.labels import Labels
from bc_pipeline.problems.base import Problem
from bc_pipeline.sample_metadata import SampleMetadata, join_metadata
from bc_pipeline.tables.reader import open_table

# A batch is compared with the known rows in memory, about 1 KB for each row.
ROW_LIMIT = 250_000


@dataclass(frozen=True, eq=False)
class FileRows:
    """All rows of a file, with the defects of single rows.

    Attributes
    ----------
    notices : tuple of str
        Columns that were passed over.
    coded : array of bool, shape (n,)
        Whether the label is a code in the file, not a word.
    """

    dialect: str
    sha256: str
    lines: list[int]
    rows: LabelledRows
    defects: dict[int, list[Defect]]
    coded: np.ndarray
    notices: tuple[str, ...]

    @property
    def valid(self) -> list[int]:
        """Positions of the rows without a defect."""
        return [row for row in range(len(self.rows)) if row not in self.defects]


def read_labelled(path: Path, problem: Problem, labels: Labels) -> FileRows:
    """Read a file whose labels are spelled as `labels` says.

    Raises
    ------
    FileRefused, SchemaMismatch
    """
    lines: list[int] = []
    ids: list[str] = []
    values = [np.empty((0, len(problem.schema.names)))]
    codes = [np.empty(0, dtype=np.int64)]
    metadata: list[tuple[SampleMetadata, int]] = []
    coded = [np.empty(0, dtype=bool)]
    defects: dict[int, list[Defect]] = {}
    with open_table(path, problem.schema, labels) as reader:
        for block in reader:
            assert block.codes is not None, "the reader reads labels"
            assert block.coded is not None, "the reader reads labels"
            if reader.rows_read > ROW_LIMIT:
                raise FileRefused(
                    f"{reader.source} has more than {ROW_LIMIT} rows.",
                    "Land it in several files.",
                    source=reader.source,
                )
            defects |= {len(lines) + row: row_defects for row, row_defects in block.defects.items()}
            lines += block.lines.tolist()
            ids += [name or "" for name in block.ids]
            # Adding zero turns -0.0 into 0.0: equal values have equal bytes.
            values.append(block.values + 0.0)
            codes.append(block.codes)
            coded.append(block.coded)
            metadata.append((block.metadata, len(block)))
        all_values = np.concatenate(values)
        rows = LabelledRows(
            row_keys(all_values),
            tuple(ids),
            all_values,
            np.concatenate(codes),
            metadata=join_metadata(metadata),
        )
        return FileRows(
            dialect=reader.columns.dialect,
            sha256=reader.sha256,
            lines=lines,
            rows=rows,
            defects=defects,
            coded=np.concatenate(coded),
            notices=reader.notices,
        )
