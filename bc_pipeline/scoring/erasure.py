"""Removes one person's lines from the scores of batches, and from the lists of rejected rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bc_pipeline.artifacts.files import encode_document, sha256_bytes, write_atomic
from bc_pipeline.artifacts.signed_document import (
    read_signed_document,
    remove_signatures,
    write_signed,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.scoring.scores_manifest import MANIFEST, ScoresManifest

Named = Callable[[Sequence[str | None]], np.ndarray]
"""Which rows are the person's, by id, or by row key where the file had no ids."""


def erase_scores(store: Store, named: Named, *, dry_run: bool) -> int:
    """Remove the person's lines from every folder of scores on the volume; their number.

    The manifest gets the new digests first: a process that is killed in between leaves a file with
    another digest, which the same request again rewrites.
    """
    removed = 0
    for path in sorted(store.scores.glob(f"[!.]*/[!.]*/{MANIFEST}")):
        manifest = read_signed_document(store, path, ScoresManifest)
        changed: dict[str, bytes] = {}
        for file in sorted(path.parent.rglob("[!.]*")):
            if file.suffix in (".csv", ".parquet") and file.is_file():
                data, lines = _without(file, named)
                if lines:
                    changed[file.relative_to(path.parent).as_posix()] = data
                    removed += lines
        if changed and not dry_run:
            reports = tuple(_with_digests(report, changed) for report in manifest.reports)
            document = encode_document(msgspec.structs.replace(manifest, reports=reports))
            write_signed(store, path, document)
            for name, data in changed.items():
                write_atomic(path.parent / name, data)
            remove_signatures(path, keep=(document,))
    return removed


def _with_digests(report: dict[str, Any], changed: dict[str, bytes]) -> dict[str, Any]:
    report = dict(report)
    if report.get("output") in changed:
        report["output_sha256"] = sha256_bytes(changed[report["output"]])
    for kind in ("parts", "rejected_parts"):
        if isinstance(report.get(kind), list | tuple):
            report[kind] = [
                part
                | {
                    "sha256": sha256_bytes(changed[part["name"]]),
                    "size": len(changed[part["name"]]),
                }
                if part["name"] in changed
                else part
                for part in report[kind]
            ]
    return report


def _without(path: Path, named: Named) -> tuple[bytes, int]:
    """A file without the person's lines, and how many these are."""
    return _csv_without(path, named) if path.suffix == ".csv" else _parquet_without(path, named)


def _csv_without(path: Path, named: Named) -> tuple[bytes, int]:
    table = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    if not table or ID_COLUMN not in table[0]:
        return b"", 0
    at = table[0].index(ID_COLUMN)
    found = named([row[at] or None for row in table[1:]]).tolist()
    others = [row for row, mine in zip(table[1:], found, strict=True) if not mine]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table[0], *others])
    return out.getvalue().encode(), sum(found)


def _parquet_without(path: Path, named: Named) -> tuple[bytes, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if ID_COLUMN not in table.column_names:
        return b"", 0
    found = named([None if name is None else str(name) for name in table[ID_COLUMN].to_pylist()])
    sink = pa.BufferOutputStream()
    pq.write_table(table.filter(pa.array(~found)), sink)
    return sink.getvalue().to_pybytes(), int(found.sum())
