"""Labelled rows that a caller sends: read to the end, reported on, and landed as they are.

The service does not make the batch itself: the retrain's ingest does, which also knows what
was there before. The name of the batch is made from the file's bytes, so it is known here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.files import sha256_file, write_atomic
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import Defect, RowsRejected, TransientError
from bc_pipeline.serving.bodies.uploads import read_rows
from bc_pipeline.settings import Settings

LABELLED_ROWS = 100_000
_LISTED = 200


class UnusableRow(msgspec.Struct):
    """One defect of a row, by its line in the file; the header is line 1."""

    line: int
    feature: str | None
    reason: str


class LandedRows(msgspec.Struct):
    """What came of an upload.

    Attributes
    ----------
    batch : str
        Name that the batch has once a retrain has taken it in.
    known : bool
        Whether the same file was landed before.
    usable : int
        Rows without a defect of their own. A retrain may still put rows aside that
        contradict rows it knows.
    labels : dict of str to int
        Usable rows by label.
    defects : list of UnusableRow
        The first of them; the batch's quarantine file will have all.
    """

    batch: str
    known: bool
    rows: int
    usable: int
    unusable: int
    labels: dict[str, int]
    defects: list[UnusableRow]


def land(settings: Settings, manifest: Manifest, path: Path) -> LandedRows:
    """Read an upload to its end, and put it into the landing folder.

    Raises
    ------
    FileRefused, SchemaMismatch
        Where the file as a whole cannot be read; nothing was landed.
    RowsRejected
        Where no row is usable; nothing was landed.
    TransientError
        Where the landing folder cannot be written.
    """
    labels = manifest.label_set
    rows = usable = 0
    counts: Counter[str] = Counter()
    defects: list[UnusableRow] = []
    blocks = read_rows(
        path, manifest.feature_schema, labels, read_labels=True, row_limit=LABELLED_ROWS
    )
    for block in blocks:
        assert block.codes is not None, "labels were asked for"
        sound = block.accepted
        rows += len(block)
        usable += int(sound.sum())
        positive = int((block.codes[sound] == labels.positive.code).sum())
        counts[labels.positive.name] += positive
        counts[labels.negative.name] += int(sound.sum()) - positive
        for index, found in sorted(block.defects.items()):
            room = _LISTED - len(defects)
            line = int(block.lines[index])
            defects += [UnusableRow(line, d.column, d.reason) for d in found[:room]]
    if not usable:
        first = defects[0]
        reason = Defect(first.reason, first.line, first.feature)
        raise RowsRejected(
            f"None of the {rows} rows is usable; {reason}.", "Nothing was landed.", read=rows
        )
    digest = sha256_file(path)
    known = _put(Store(settings.home, settings.service_problem).landing, digest, path)
    return LandedRows(digest[:16], known, rows, usable, rows - usable, dict(counts), defects)


def _put(landing: Path, digest: str, path: Path) -> bool:
    """Whether the file was there already."""
    target = landing / f"api-{digest[:16]}.csv"
    if target.exists():
        return True
    try:
        write_atomic(target, path.read_bytes())
    except OSError as error:
        raise TransientError(
            f"The landing folder cannot be written: {error.strerror}.", "Nothing was landed."
        ) from None
    return False
