"""Moves what a distrusted key signed to a folder of its own on the volume, at the old paths."""

from __future__ import annotations

import shutil
from pathlib import Path

from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.artifacts.store import Store
from bc_pipeline.stack.resigning import bundle_signer, list_challengers


def move_with_rows(store: Store, path: Path, key_id: str) -> None:
    """Move a signed file, its signatures and what it describes."""
    if path.parent in (store.batches, store.datasets):
        move(store, path.with_suffix(".parquet"), key_id)
    if path.parent.parent == store.candidates or store.scores in path.parents:
        move(store, path.parent, key_id)
        return
    for signature in path.parent.glob(f"{path.name}.*.sig"):
        move(store, signature, key_id)
    move(store, path, key_id)


def move_unpublished(store: Store, key_id: str) -> int:
    """Move challengers that were not published; returns how many."""
    moved = 0
    for folder in list_challengers(store):
        if bundle_signer(store, folder)[0] == key_id:
            move(store, folder, key_id)
            moved += 1
    return moved


def move(store: Store, path: Path, key_id: str) -> None:
    """Move a file or folder, where it is there; what was moved there before is replaced."""
    if not path.exists():
        return
    target = store.distrusted(key_id) / store.relative(path)
    make_directory(target.parent)
    if target.is_dir():
        shutil.rmtree(target)
    path.replace(target)
