"""Removes what training made of rows that were erased: cross-validation results and challengers."""

from __future__ import annotations

import shutil
from collections.abc import Collection

from bc_pipeline.artifacts import work_folder
from bc_pipeline.artifacts.signed_document import read_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import StoreError
from bc_pipeline.training.results import RESULT_FILE, CandidateDocument


def remove_results(store: Store, datasets: Collection[str], *, dry_run: bool = False) -> int:
    """Remove cross-validation results and unpublished challengers of datasets; their number."""
    folders = [
        path.parent
        for path in sorted(store.candidates.glob(f"[!.]*/{RESULT_FILE}"))
        if read_signed_document(store, path, CandidateDocument).dataset in datasets
    ]
    for folder in sorted(store.work.glob("[!.]*")):
        try:
            challenger = work_folder.open_challenger(store, folder.name, store.verify_key)
        except StoreError:
            continue
        if challenger.manifest.lineage.dataset in datasets:
            folders.append(folder)
    if not dry_run:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return len(folders)
