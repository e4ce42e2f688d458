"""Notes of rows that were erased: signed documents that tell that and why something is gone.

A note has no id, no value and no hash of either: whoever holds the key of a keyed hash could try
every id that is known. Documents of batches and datasets stay as they are, and so do their names.
Of a file that a note names, the rows are valid that the newest note says were left: a reader
neither takes them for corrupt, nor takes the rows of before from a backup.

A note is written as ``started`` before the first file is rewritten. Until it is ``finished``, both
are valid, so a process that is killed in between leaves a readable volume; the same request again
erases the rest, and finishes the note.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import sha256_file
from bc_pipeline.artifacts.signed_document import (
    read_signed_document,
    remove_signatures,
    write_signed_document,
)
from bc_pipeline.artifacts.store import Store


class ErasedRows(Document, frozen=True):
    """A file of rows of a batch or dataset.

    Attributes
    ----------
    path : str
        On the volume.
    erased, left : int
        Rows.
    sha256 : str
        Of the file afterwards.
    """

    path: str
    erased: int
    left: int
    sha256: str


class LandedLines(Document, frozen=True):
    """Lines of a landed file that hold the rows: the same bytes do not bring them back.

    Attributes
    ----------
    sha256 : str
        Of the file.
    """

    source: str
    sha256: str
    lines: tuple[int, ...]


class ErasureNote(Document, frozen=True, kw_only=True):
    """The rows that were erased, and why.

    Attributes
    ----------
    erasure : str
        Name: a number, in the order of the erasures of a problem.
    at : str
        ISO 8601, UTC.
    requested_by : str
        Whether the request had an id or values; it is not stored.
    rows : tuple of ErasedRows
    landed : tuple of LandedLines
    versions : tuple of str
        Versions that were trained on the rows.
    quarantined, scores, predictions, outcomes, candidates : int
        Lines of quarantine tables, lines of scores, logged predictions, their outcomes, and
        cross-validation results that were removed; 0 where the erasure is not finished.
    """

    format: int = 1
    erasure: str
    problem: str
    at: str
    actor: str
    reason: str
    requested_by: Literal["id", "values"]
    state: Literal["started", "finished"]
    rows: tuple[ErasedRows, ...] = ()
    landed: tuple[LandedLines, ...] = ()
    versions: tuple[str, ...] = ()
    quarantined: int = 0
    scores: int = 0
    predictions: int = 0
    outcomes: int = 0
    candidates: int = 0

    def find(self, path: str) -> ErasedRows | None:
        """The entry of the note about a file on the volume."""
        return next((rows for rows in self.rows if rows.path == path), None)


def list_notes(store: Store) -> list[ErasureNote]:
    """All notes, the earliest first.

    Raises
    ------
    SignatureInvalid, ArtifactCorrupt
    """
    return [
        read_signed_document(store, path, ErasureNote)
        for path in sorted(store.erasures.glob("[!.]*.json"), key=lambda path: int(path.stem))
    ]


def valid_sha256(store: Store, path: Path, sha256: str) -> str:
    """Digest that a file of rows must have.

    Parameters
    ----------
    path : Path
    sha256 : str
        The digest in the document of the batch or dataset.
    """
    return valid_among(list_notes(store), store, path, sha256)


def valid_among(notes: Sequence[ErasureNote], store: Store, path: Path, sha256: str) -> str:
    """As `valid_sha256`, with the notes that were read."""
    name = store.relative(path)
    for note in notes:
        rows = note.find(name)
        if rows is not None and (note.state == "finished" or _has(path, rows.sha256)):
            sha256 = rows.sha256
    return sha256


def erasures_of(store: Store, path: Path) -> tuple[str, ...]:
    """Names of the notes about a file of rows."""
    name = store.relative(path)
    return tuple(note.erasure for note in list_notes(store) if note.find(name))


def erased_lines(store: Store, sha256: str) -> frozenset[int]:
    """Lines of a landed file whose rows were erased."""
    return frozenset(
        line
        for note in list_notes(store)
        for landed in note.landed
        if landed.sha256 == sha256
        for line in landed.lines
    )


def next_name(store: Store) -> str:
    """Name of the next note; the caller has the lock of their folder."""
    return f"{1 + max((int(note.erasure) for note in list_notes(store)), default=0):04d}"


def finish_notes(store: Store) -> None:
    """Finish the notes whose files were all rewritten, by them or by a later one.

    The caller has the lock of their folder.
    """
    notes = list_notes(store)
    for position, note in enumerate(notes):
        if note.state == "started" and all(
            any(
                _has(store.home / rows.path, later.sha256)
                for later in _later(notes, position, rows)
            )
            for rows in note.rows
        ):
            write_note(store, msgspec.structs.replace(note, state="finished"))


def write_note(store: Store, note: ErasureNote) -> None:
    data = write_signed_document(store, store.erasure_note(note.erasure), note)
    remove_signatures(store.erasure_note(note.erasure), keep=(data,))


def _later(notes: Sequence[ErasureNote], position: int, rows: ErasedRows) -> list[ErasedRows]:
    return [erased for note in notes[position:] if (erased := note.find(rows.path))]


def _has(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256
