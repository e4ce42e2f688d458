"""Removes what is older than the policy and needed by nothing.

Kept are: the versions of the registry, the anchor, the newest versions that were in production,
which a rollback can bring back, and every version that the audit log names within the age; the
newest dataset; and datasets and validations that these versions were made of. Batches, the
landing folder, notes of erasures and the audit log are never pruned. The prediction log has a
retention of its own.

The line in the audit log is written before the first version goes. What is a folder gets a hidden
name before its files go, and a document goes before its rows: at each moment what is visible is
complete, and pruning again removes what was left.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bc_pipeline.artifacts.audit_log import AuditLine
from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.manifest import Manifest, Registry
from bc_pipeline.artifacts.signed_document import read_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_stored
from bc_pipeline.clock import now, parse_time
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.anchor import find_anchor
from bc_pipeline.promotion.eligibility import releases_by_version
from bc_pipeline.promotion.transition import settled_registry
from bc_pipeline.scoring.scores_manifest import MANIFEST, ScoresManifest
from bc_pipeline.settings import Settings
from bc_pipeline.training.results import RESULT_FILE, CandidateDocument

_HIDDEN = ".pruned-"


@dataclass(frozen=True)
class Entry:
    """Something that may be pruned.

    Attributes
    ----------
    kind : str
        Such as ``version``.
    why : str
        Why it stays, or is removed.
    bytes : int
    """

    kind: str
    name: str
    pruned: bool
    why: str
    bytes: int


@dataclass(frozen=True)
class _Item:
    kind: str
    name: str
    paths: tuple[Path, ...]
    why: str


def prune(settings: Settings, problem: str, *, actor: str, dry_run: bool = False) -> list[Entry]:
    """Prune by the settings ``BC_RETAIN_DAYS`` and ``BC_RETAIN_VERSIONS``.

    Raises
    ------
    AuditBroken
    SignatureInvalid, ArtifactCorrupt
        Where something that stays cannot be read, and with it the list of what it needs.
    TransientError
    """
    store = Store.of(settings, problem)
    oldest = now() - timedelta(days=settings.retain_days)
    # Under these locks no release, snapshot or ingest begins to refer to what is removed.
    with (
        locked(store.lock(store.batches)),
        locked(store.lock(store.datasets)),
        settled_registry(store) as (registry, lines, _),
    ):
        items = list(_items(store, registry, lines, oldest, settings.retain_versions))
        entries = [_entry(item, oldest) for item in items]
        gone = [item for item in items if not item.why]
        if not dry_run:
            _record(store, registry, lines, [i.name for i in gone if i.kind == "version"], actor)
            for item in gone:
                for path in item.paths:
                    _remove(path)
            for folder in (store.versions, store.candidates, store.work, *store.scores.glob("*")):
                for path in folder.glob(f"{_HIDDEN}*"):
                    shutil.rmtree(path, ignore_errors=True)
    return entries


def _items(
    store: Store, registry: Registry, lines: list[AuditLine], oldest: datetime, count: int
) -> Iterator[_Item]:
    """Everything that may be pruned, with why it stays; empty where it is removed."""
    manifests: list[Manifest] = []
    for version, why in _version_reasons(store, registry, lines, oldest, count).items():
        if why:
            manifests.append(open_stored(store, version, store.verify_key).manifest)
        yield _Item("version", version, (store.version(version),), why)
    lineages = [manifest.lineage for manifest in manifests]
    datasets = {lineage.dataset: "a version that stays was made of it" for lineage in lineages}
    documents = sorted(store.datasets.glob("[!.]*.json"), key=_modified)
    if documents:
        datasets.setdefault(documents[-1].stem, "the newest")
    for path in documents:
        rows = store.dataset_rows(path.stem)
        why = datasets.get(path.stem, "") or _young(path, oldest)
        datasets[path.stem] = why
        yield _Item("dataset", path.stem, (path, *_signatures(path), rows), why)
    for path in sorted(store.candidates.glob(f"[!.]*/{RESULT_FILE}")):
        result = read_signed_document(store, path, CandidateDocument)
        why = "its dataset is kept" if datasets.get(result.dataset) else _young(path, oldest)
        yield _Item("candidate", path.parent.name, (path.parent,), why)
    for path in sorted(store.work.glob("[!.]*")):
        yield _Item("work", path.name, (path,), _young(path, oldest))
    needed = {lineage.validation for lineage in lineages}
    scores = sorted(store.scores.glob(f"[!.]*/[!.]*/{MANIFEST}"), key=_modified)
    for path in scores:
        why = "the newest" if path == scores[-1] else _young(path, oldest)
        if why:
            needed.update(read_signed_document(store, path, ScoresManifest).validations)
        name = path.parent.relative_to(store.scores).as_posix()
        yield _Item("scores", name, (path.parent,), why)
    for path in sorted(store.validations.glob("[!.]*.json")):
        details = store.validation_results(path.stem)
        why = "rows or scores that stay were validated" if path.stem in needed else ""
        parts = (path, *_signatures(path), details, *_signatures(details))
        page = store.validation_page(path.stem)
        parts = (*parts, page, *_signatures(page))
        yield _Item("validation", path.stem, parts, why or _young(path, oldest))
    for path in sorted(store.quarantine.glob("[!.]*.csv")):
        yield _Item("quarantine", path.stem, (path, *_signatures(path)), _young(path, oldest))


def _version_reasons(
    store: Store, registry: Registry, lines: list[AuditLine], oldest: datetime, count: int
) -> dict[str, str]:
    """Why each version stays; empty where it is removed."""
    reasons: dict[str, str] = {}
    for alias in ("production", "staging", "previous"):
        pointer = getattr(registry, alias)
        if pointer is not None:
            reasons.setdefault(pointer.version, f"in {alias}")
    anchor = find_anchor(lines)
    if anchor is not None:
        reasons.setdefault(anchor.version, "the anchor")
    released = sorted(releases_by_version(lines).values(), key=lambda line: line.sequence)
    for line in released[-count:]:
        reasons.setdefault(line.version, "a rollback can bring it back")
    last = {line.version: line.at for line in lines if line.event != "pruned"}
    reason_of = {}
    for version in list_versions(store):
        at = last.get(version)
        recent = "no verdict in the audit log" if at is None else _recent(parse_time(at), oldest)
        reason_of[version] = reasons.get(version) or recent
    return reason_of


def _record(
    store: Store, registry: Registry, lines: list[AuditLine], versions: list[str], actor: str
) -> None:
    """Write the line that names the versions, unless a killed process has."""
    recorded = {
        name for line in lines if line.event == "pruned" for name in line.details["versions"]
    }
    new = [name for name in versions if name not in recorded]
    if new:
        audit.append(
            store,
            "pruned",
            generation=registry.generation,
            actor=actor,
            details={"versions": new},
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        hidden = path.with_name(f"{_HIDDEN}{path.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
        shutil.rmtree(hidden)
    else:
        path.unlink(missing_ok=True)


def _entry(item: _Item, oldest: datetime) -> Entry:
    why = item.why or f"not needed, and from before {oldest:%Y-%m-%d}"
    size = sum(file.stat().st_size for path in item.paths for file in _files(path))
    return Entry(item.kind, item.name, not item.why, why, size)


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return (file for file in path.rglob("*") if file.is_file())
    return (path,) if path.is_file() else ()


def _signatures(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.sig"))


def _young(path: Path, oldest: datetime) -> str:
    return _recent(datetime.fromtimestamp(_modified(path), oldest.tzinfo), oldest)


def _recent(at: datetime, oldest: datetime) -> str:
    return "within the age" if at >= oldest else ""


def _modified(path: Path) -> float:
    return path.stat().st_mtime
