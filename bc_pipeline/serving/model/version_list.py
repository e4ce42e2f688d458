"""Lists the published versions of a store in pages, the newest first.

A damaged version is listed with its error code: one bad folder must not hide the others.
"""

from __future__ import annotations

import msgspec

from bc_pipeline.artifacts.audit_log import OUTCOMES, read_audit_log
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import VERDICT
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Kind, Verdict
from bc_pipeline.artifacts.versions import list_versions, open_stored
from bc_pipeline.errors import HeaderRefused, StoreError
from bc_pipeline.serving.model.model_info import pointers_by_alias
from bc_pipeline.settings import Settings


class ListedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One published version.

    Attributes
    ----------
    aliases : list of str
        Of production, previous and staging, those that name it.
    passed : bool or None
        Whether its gate passed; null where that cannot be read.
    reasons : list of str
        Why it did not pass.
    live : bool or None
        False for a version of a backfill, which is judged and never promoted.
    promoted_at : str or None
        When it last became the production version.
    error : str or None
        Code of what is wrong with its files; the facts above are null then.
    """

    version: str
    aliases: tuple[str, ...]
    promoted_at: str | None
    manifest_sha256: str | None = None
    candidate: str | None = None
    title: str | None = None
    as_of: str | None = None
    live: bool | None = None
    threshold: float | None = None
    metrics: dict[str, float | None] | None = None
    kind: Kind | None = None
    passed: bool | None = None
    reasons: tuple[str, ...] = ()
    error: str | None = None


class VersionPage(msgspec.Struct, frozen=True):
    """Published versions, the newest first.

    Attributes
    ----------
    total : int
        How many there are on all pages.
    next_cursor : str or None
        Gives the next page as 'cursor'; null on the last one.
    history_error : str or None
        Code of what is wrong with the audit log or the registry: then 'promoted_at' and
        'aliases' are not complete.
    """

    problem: str
    total: int
    versions: tuple[ListedVersion, ...]
    next_cursor: str | None
    history_error: str | None = None


def version_page(settings: Settings, limit: int, cursor: str | None) -> VersionPage:
    """List versions whose name comes before `cursor`, at most `limit` of them.

    Raises
    ------
    HeaderRefused
        Where the cursor names no version.
    """
    store = Store.of(settings, settings.service_problem)
    names = list_versions(store)[::-1]
    if cursor is not None and cursor not in names:
        raise HeaderRefused(
            "'cursor' is the 'next_cursor' of a page; this one names no version.",
            "Begin again without it.",
            header="cursor",
        )
    rest = [name for name in names if cursor is None or name < cursor]
    shown = rest[:limit]
    aliases, promoted, error = _history(store)
    return VersionPage(
        problem=store.problem,
        total=len(names),
        versions=tuple(
            _listed(store, settings, name, aliases.get(name, ()), promoted.get(name))
            for name in shown
        ),
        next_cursor=shown[-1] if len(rest) > len(shown) else None,
        history_error=error,
    )


def _listed(
    store: Store, settings: Settings, name: str, aliases: tuple[str, ...], promoted_at: str | None
) -> ListedVersion:
    try:
        files = open_stored(store, name, settings.verify_key)
        verdict = files.read_document(VERDICT, Verdict) if VERDICT in files.manifest.files else None
    except StoreError as error:
        return ListedVersion(
            version=name, aliases=aliases, promoted_at=promoted_at, error=error.code
        )
    manifest = files.manifest
    return ListedVersion(
        version=name,
        aliases=aliases,
        promoted_at=promoted_at,
        manifest_sha256=files.manifest_sha256,
        candidate=manifest.recipe.candidate,
        title=manifest.recipe.title,
        as_of=manifest.lineage.as_of,
        live=manifest.lineage.live,
        threshold=manifest.threshold,
        metrics=manifest.metrics,
        kind=verdict.kind if verdict else None,
        passed=verdict.passed if verdict else None,
        reasons=verdict.reasons if verdict else (),
    )


def _history(store: Store) -> tuple[dict[str, tuple[str, ...]], dict[str, str], str | None]:
    """Aliases and time of promotion by version, and the code of what could not be read."""
    aliases: dict[str, tuple[str, ...]] = {}
    promoted: dict[str, str] = {}
    broken = None
    try:
        for alias, pointer in pointers_by_alias(read_registry(store)).items():
            aliases[pointer.version] = (*aliases.get(pointer.version, ()), alias)
            if alias != "staging":
                promoted[pointer.version] = pointer.promoted_at
    except StoreError as error:
        broken = error.code
    try:
        for line in read_audit_log(store).trusted:
            if line.event in OUTCOMES:
                promoted[line.version] = line.at
    except StoreError as error:
        broken = error.code
    except OSError:
        # The service may have no permission to read the audit log.
        broken = "unreadable"
    return aliases, promoted, broken
