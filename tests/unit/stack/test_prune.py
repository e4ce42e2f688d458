from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.files import sha256_file
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import MANIFEST
from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_champion, open_stored
from bc_pipeline.clock import now
from bc_pipeline.errors import SignatureInvalid, VersionNotFound
from bc_pipeline.promotion import audit, transition
from bc_pipeline.settings import Settings
from bc_pipeline.stack import prune as pruning
from bc_pipeline.stack.prune import prune
from tests.conftest import Fitted, Releases, pointer_to
from tests.unit.commands import run_command

LATER = timedelta(days=400)


def promote(store: Store, version: str) -> None:
    pointer = pointer_to(version, sha256_file(store.version(version) / MANIFEST))
    transition.release(store, read_registry(store), "promotion", pointer, "test", "r")


@pytest.fixture
def old(
    settings: Settings, releases: Releases, fitted: tuple[Fitted, ...], monkeypatch
) -> Settings:
    """Six versions, five of them in production one after the other, seen 400 days later."""
    store = releases.store
    for number in range(6):
        releases.publish(f"v{number}", fitted[number % 3])
    for number in range(5):
        promote(store, f"v{number}")
    monkeypatch.setattr(pruning, "now", lambda: now() + LATER)
    return settings.model_copy(update={"retain_days": 365, "retain_versions": 3})


def retained(settings: Settings, kind: str, *, dry_run: bool = True) -> dict[str, bool]:
    entries = prune(settings, "wdbc", actor="cli:ada", dry_run=dry_run)
    return {entry.name: not entry.pruned for entry in entries if entry.kind == kind}


def write_old(store: Store, path: Path, data: bytes = b"{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_signed(store, path, data)
    return path


def test_rollback_targets_anchor_and_what_was_never_judged_are_kept(old: Settings) -> None:
    store = Store.of(old, "wdbc")
    # v0 is the first champion, so the anchor; v5 has no line in the audit log.
    expected = {"v0": True, "v1": False, "v2": True, "v3": True, "v4": True, "v5": True}
    assert retained(old, "version") == expected
    assert len(list_versions(store)) == 6
    assert retained(old, "version", dry_run=False) == expected
    assert list_versions(store) == ["v0", "v2", "v3", "v4", "v5"]
    assert read_audit_log(store).lines[-1].details == {"versions": ["v1"]}
    assert audit.verify(store).generation == 5
    assert open_champion(store, store.verify_key).manifest.version == "v4"
    with pytest.raises(VersionNotFound, match=r"v1 of wdbc was pruned on 20\d\d-.* by policy"):
        open_stored(store, "v1", store.verify_key)
    with pytest.raises(VersionNotFound, match="has no version v9"):
        open_stored(store, "v9", store.verify_key)
    lines = len(read_audit_log(store).lines)
    prune(old, "wdbc", actor="cli:ada")
    assert len(read_audit_log(store).lines) == lines


def test_what_is_young_stays(old: Settings) -> None:
    assert all(retained(old.model_copy(update={"retain_days": 1000}), "version").values())


def test_data_of_kept_versions_and_the_newest_stay(old: Settings) -> None:
    store = Store.of(old, "wdbc")
    lineage = open_stored(store, "v4", store.verify_key).manifest.lineage
    names = [lineage.dataset, "1" * 16, "2" * 16]
    for age, name in enumerate(names):
        path = write_old(store, store.dataset_document(name))
        store.dataset_rows(name).write_bytes(b"rows")
        os.utime(path, (1e9 + age, 1e9 + age))
    for name in (lineage.validation, "other"):
        write_old(store, store.validation_document(name))
        write_old(store, store.validation_page(name))
    table = write_old(store, store.quarantined("b" * 16), b"line,id\n")
    assert retained(old, "dataset", dry_run=False) == {
        names[0]: True,
        names[1]: False,
        names[2]: True,
    }
    assert not [path for path in store.datasets.iterdir() if path.name.startswith("1")]
    assert store.validation_document(lineage.validation).exists()
    assert not store.validation_document("other").exists()
    assert not list(store.data_docs.rglob("other*"))
    assert not table.exists()
    assert list(store.quarantine.glob("[!.]*")) == []


def test_a_killed_run_leaves_complete_versions_and_the_next_one_finishes(
    old: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.of(old, "wdbc")

    def killed(path: Path, **_: object) -> None:
        if Path(path).exists():
            (Path(path) / MANIFEST).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(old, "wdbc", actor="cli:ada")
    for version in list_versions(store):
        open_stored(store, version, store.verify_key).verify_all()
    prune(old, "wdbc", actor="cli:ada")
    assert not any(path.name.startswith(".pruned") for path in store.versions.iterdir())
    assert [line.event for line in read_audit_log(store).lines].count("pruned") == 1


def test_nothing_is_pruned_beside_a_damaged_version_that_is_kept(old: Settings) -> None:
    store = Store.of(old, "wdbc")
    (store.version("v3") / MANIFEST).write_bytes(b"{}")
    with pytest.raises(SignatureInvalid):
        prune(old, "wdbc", actor="cli:ada")
    assert "v1" in list_versions(store)


def test_the_command_shows_before_it_removes(old: Settings) -> None:
    store = Store.of(old, "wdbc")
    seen = json.loads(run_command("prune", "--dry-run", "--json").stdout)
    assert {entry["pruned"] for entry in seen["entries"]} == {False}
    assert (
        json.loads(run_command("prune", "--json", code=3).stdout)["error"]["fields"]["setting"]
        == "--yes"
    )
    result = run_command("prune")
    assert "a rollback can bring it back" in result.output
    assert "Nothing goes" in result.stderr
    assert len(list_versions(store)) == 6
    assert run_command("verdict", "v9", code=6).stderr.count("has no version v9") == 1
