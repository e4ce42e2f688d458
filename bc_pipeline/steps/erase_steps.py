"""Erasure of one person's rows, wherever the volume and the prediction log have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now
from bc_pipeline.data import erasure, erasure_notes
from bc_pipeline.data.batch_decisions import checked_reason
from bc_pipeline.data.erasure import UserFiles
from bc_pipeline.data.erasure_notes import ErasedRows, ErasureNote
from bc_pipeline.data.sample_match import SampleMatcher, canonical_sample_id
from bc_pipeline.errors import ConfigError, StoreError
from bc_pipeline.prediction_log.erasure import LoggedSample, erase_logged, find_logged
from bc_pipeline.promotion import audit
from bc_pipeline.scoring.erasure import erase_scores
from bc_pipeline.settings import Settings
from bc_pipeline.training.erasure import remove_results
from bc_pipeline.workspace import Result, Workspace, open_workspace


@dataclass(frozen=True)
class SampleMatches:
    """A person's rows, and the places that hold them.

    Attributes
    ----------
    bridging : int
        As of `bc_pipeline.data.sample_match.match_sample`.
    unread : tuple of str
        Files of the volume that could not be searched.
    """

    matcher: SampleMatcher
    bridging: int
    rows: tuple[ErasedRows, ...]
    unread: tuple[str, ...]
    landed: UserFiles
    worklist: UserFiles
    logged: LoggedSample


def erase(
    settings: Settings,
    problem: str,
    *,
    sample_id: str | None = None,
    sample_file: Path | None = None,
    reason: str,
    actor: str,
    dry_run: bool = False,
) -> Result:
    """Erase the rows of one person, and leave a signed note and a line in the audit log.

    Repeating it, also after it was killed, erases what is left.

    Parameters
    ----------
    sample_id : str, optional
        Id of the person's rows, in any spelling.
    sample_file : Path, optional
        A table with the person's values instead.

    Raises
    ------
    ConfigError
        Where there is no reason, or it repeats the id; or logged predictions cannot be decrypted.
    DataError
        Where the table of values cannot be used.
    ArtifactCorrupt, SignatureInvalid, AuditBroken, RecordsAway
    """
    settings = settings.model_copy(update={"service_problem": problem})
    workspace = open_workspace(settings, problem)
    store = workspace.store
    reason = checked_reason(reason)
    ids = _ids(sample_id, reason)
    values = np.empty((0, len(workspace.problem.schema.names)))
    if sample_file is not None:
        values = erasure.read_sample(workspace.problem, sample_file)
    with _locks(store):
        matches = _find(workspace, ids, values)
        result = _count(workspace, matches) | {"erasure": None, "dry_run": dry_run}
        if not dry_run:
            by: Literal["id", "values"] = "id" if ids else "values"
            result["erasure"] = _erase(workspace, matches, result, by, actor=actor, reason=reason)
    return result


def erasures(settings: Settings, problem: str) -> list[Result]:
    """All notes of erasures, the earliest first."""
    store = open_workspace(settings, problem).store
    return [msgspec.to_builtins(note) for note in erasure_notes.list_notes(store)]


def _ids(sample_id: str | None, reason: str) -> frozenset[str]:

    if sample_id is None:
        return frozenset()
    name = canonical_sample_id(sample_id)
    if not name:
        raise ConfigError("--id is empty.", "Give the id that files have.", setting="--id")
    if name in reason.casefold().split():
        raise ConfigError(
            "--reason repeats the id, and the audit log is never erased.",
            "Give a ticket or a letter's date instead.",
            setting="--reason",
        )
    return frozenset({name})


@contextmanager
def _locks(store: Store) -> Iterator[None]:
    """Nobody may ingest, make a snapshot or erase meanwhile."""
    with ExitStack() as stack:
        for folder in (store.erasures, store.batches, store.datasets):
            stack.enter_context(locked(store.lock(folder)))
        yield


def _find(workspace: Workspace, ids: frozenset[str], values: np.ndarray) -> SampleMatches:

    settings, problem, store = workspace.settings, workspace.problem, workspace.store
    features = len(problem.schema.names)
    matcher, bridging = erasure.find_sample(
        problem,
        erasure.read_batches(problem, store),
        ids,
        values,
        lambda matches: find_logged(settings, features, matches).values,
    )
    rows, unread = erasure.plan_rows(problem, store, matcher)
    return SampleMatches(
        matcher,
        bridging,
        tuple(rows),
        tuple(unread),
        erasure.find_in_folder(problem, store.landing, matcher),
        erasure.find_in_folder(problem, store.worklist, matcher),
        find_logged(settings, features, matcher),
    )


def _count(workspace: Workspace, matches: SampleMatches) -> Result:

    store, matcher = workspace.store, matches.matcher
    names = {kind: _stems(matches.rows, kind) for kind in ("batches", "datasets")}
    return {
        "rows": msgspec.to_builtins(matches.rows),
        "batches": names["batches"],
        "datasets": names["datasets"],
        "versions": _trained_on(store, names["datasets"]),
        "quarantined": erasure.erase_quarantined(
            store, matcher, matches.landed.files, dry_run=True
        ),
        "scores": erase_scores(store, matcher.by_name, dry_run=True),
        "predictions": len(matches.logged.ids),
        "candidates": remove_results(store, names["datasets"], dry_run=True),
        "bridging": matches.bridging,
        "landed_files": msgspec.to_builtins(matches.landed.files),
        "worklist_files": msgspec.to_builtins(matches.worklist.files),
        "not_searched": [
            *(f"landing/{name}" for name in matches.landed.unread),
            *(f"worklist/{name}" for name in matches.worklist.unread),
            *matches.unread,
            *(f"records/quarantine/{name}" for name in matches.logged.unread),
        ],
    }


def _erase(
    workspace: Workspace,
    matches: SampleMatches,
    counts: Result,
    requested_by: Literal["id", "values"],
    *,
    actor: str,
    reason: str,
) -> str | None:
    """Erase what was found; returns the name of the note, or None where there is nothing new."""
    store, matcher = workspace.store, matches.matcher
    note = _new_note(store, matches, counts, requested_by, actor, reason)
    if note is not None:
        erasure_notes.write_note(store, note)
        _record(store, note, counts)
    erasure.erase_rows(workspace.problem, store, matcher, matches.rows)
    erased_datasets = {
        name for one in erasure_notes.list_notes(store) for name in _stems(one.rows, "datasets")
    }
    done = {
        "candidates": remove_results(store, erased_datasets),
        "quarantined": erasure.erase_quarantined(
            store, matcher, matches.landed.files, dry_run=False
        ),
        "scores": erase_scores(store, matcher.by_name, dry_run=False),
    }
    done["predictions"], done["outcomes"] = erase_logged(workspace.settings, matches.logged.ids)
    counts.update(done)
    if note is not None:
        finished = msgspec.structs.replace(note, state="finished", **done)
        erasure_notes.write_note(store, finished)
    erasure_notes.finish_notes(store)
    return note.erasure if note else None


def _new_note(
    store: Store,
    matches: SampleMatches,
    counts: Result,
    requested_by: Literal["id", "values"],
    actor: str,
    reason: str,
) -> ErasureNote | None:
    """The note of what starts; None where nothing is new."""
    landed = tuple(
        file
        for file in matches.landed.files
        if not erasure_notes.erased_lines(store, file.sha256).issuperset(file.lines)
    )
    counted = any(counts[name] for name in ("rows", "quarantined", "scores", "predictions"))
    if not landed and not counted:
        return None
    return erasure_notes.ErasureNote(
        erasure=erasure_notes.next_name(store),
        problem=store.problem,
        at=format_time(now()),
        actor=actor,
        reason=reason,
        requested_by=requested_by,
        state="started",
        rows=matches.rows,
        landed=landed,
        versions=tuple(counts["versions"]),
    )


def _record(store: Store, note: ErasureNote, counts: Result) -> None:

    audit.append(
        store,
        "erasure",
        generation=read_registry(store).generation,
        actor=note.actor,
        at=note.at,
        details={
            "erasure": note.erasure,
            "reason": note.reason,
            "requested_by": note.requested_by,
            "batches": counts["batches"],
            "datasets": counts["datasets"],
            "versions": list(note.versions),
        },
    )


def _stems(rows: Sequence[ErasedRows], kind: str) -> list[str]:
    return [Path(one.path).stem for one in rows if Path(one.path).parent.name == kind]


def _trained_on(store: Store, datasets: Sequence[str]) -> list[str]:
    """Versions of these datasets; those that do not verify are left out."""
    trained = []
    for name in versions.list_versions(store):
        try:
            manifest = versions.open_stored(store, name, store.verify_key).manifest
        except StoreError:
            continue
        if manifest.lineage.dataset in datasets:
            trained.append(name)
    return trained
