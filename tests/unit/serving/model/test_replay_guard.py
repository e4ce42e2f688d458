from __future__ import annotations

import base64
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from bc_pipeline.artifacts.files import encode_document, locked, sha256_bytes
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.registry import (
    SignedRegistry,
    decode_registry,
    read_registry,
    write_registry,
)
from bc_pipeline.artifacts.signed_document import find_signature, make_signature
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ArtifactCorrupt, GenerationReplayed, SignatureInvalid
from bc_pipeline.promotion.audit import append
from bc_pipeline.serving.model import replay_guard
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.serving.model.replay_guard import (
    FILE,
    ReplayGuard,
    ServedGeneration,
    read_last_served,
    require_not_replayed,
)
from bc_pipeline.settings import Settings


def registry(generation: int, version: str | None = "v", digest: str = "d") -> Registry:
    pointer = version and Pointer(
        version, digest, "m", "r", None, {}, 0.5, "d", "2026-11-15T00:00:00Z", "first", "t"
    )
    return Registry(problem="wdbc", generation=generation, production=pointer or None)


def serving(model: ModelWatcher) -> str | None:
    model.refresh()
    return model.current.version if model.current else None


def code(model: ModelWatcher) -> str | None:
    return model.last_refusal.code if model.last_refusal else None


def signed(store: Store, content: Registry) -> SignedRegistry:
    """A registry as it is read, without writing it."""
    data = encode_document(content)
    _, signature = make_signature(store, store.registry, sha256_bytes(data))
    return SignedRegistry(content, data, signature)


@pytest.fixture
def rolled(releases: Any, fitted: Any, settings: Settings) -> bytes:
    """v2 follows v1, and both were served; gives the registry as it was with v1."""
    for name, fit in zip(("v1", "v2"), fitted, strict=False):
        releases.publish(name, fit)
    model = ModelWatcher(settings)
    releases.promote("v1")
    assert serving(model) == "v1"
    old: bytes = releases.store.registry.read_bytes()
    releases.promote("v2")
    assert serving(model) == "v2"
    return old


def test_the_format_of_the_file(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    data = releases.store.registry.read_bytes()
    signature = find_signature(releases.store.registry, sha256_bytes(data))
    assert signature is not None
    assert json.loads((settings.records / FILE).read_bytes()) == {
        "format": 1,
        "registry": data.decode(),
        "signature": base64.b64encode(signature).decode(),
    }


def test_a_registry_with_an_edited_generation_locks_nothing_out(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    remembered = (settings.records / FILE).read_bytes()
    path = releases.store.registry
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b'"generation": 2', b'"generation": 1000000000'))
    for watcher, version in ((model, "v2"), (ModelWatcher(settings), None)):
        assert (serving(watcher), code(watcher)) == (version, "signature-invalid")
        assert watcher.last_refusal is not None
        assert "bc-pipeline registry --repair" in watcher.last_refusal.reason
    assert (settings.records / FILE).read_bytes() == remembered
    path.write_bytes(sound)
    releases.promote("v1")
    assert (serving(model), serving(ModelWatcher(settings))) == ("v1", "v1")


def test_a_registry_without_a_release_in_the_audit_log_is_not_remembered(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    remembered = (settings.records / FILE).read_bytes()
    for event in ("release_started", "promotion"):
        append(
            releases.store, event, version="v2", generation=2, actor="a", at="t",
            details={"release": "promotion"},
        )  # fmt: skip
    model = ModelWatcher(settings)
    assert (serving(model), model.refusals) == ("v2", 0)
    ahead = msgspec.structs.replace(read_registry(releases.store), generation=1_000_000_000)
    write_registry(releases.store, ahead)
    assert (serving(model), code(model)) == ("v2", "audit-broken")
    assert (settings.records / FILE).read_bytes() == remembered
    # An older one that the service does not remember is known from the log.
    (settings.records / FILE).unlink()
    write_registry(releases.store, decode_registry(releases.store, rolled))
    restarted = ModelWatcher(settings)
    assert (serving(restarted), code(restarted)) == (None, "generation-replayed")


def test_a_kept_registry_that_was_edited_counts_as_none(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    path = settings.records / FILE
    remembered = json.loads(path.read_bytes())
    remembered["registry"] = remembered["registry"].replace(
        '"generation": 2', '"generation": 1000000000'
    )
    path.write_text(json.dumps(remembered))
    with pytest.raises(SignatureInvalid, match=FILE):
        read_last_served(releases.store, path)
    with capture_logs() as logs:
        model = ModelWatcher(settings)
        assert serving(model) == "v2"
    assert "served_registry_ignored" in [entry["event"] for entry in logs]
    stored = read_last_served(releases.store, path)
    assert stored is not None
    assert stored.generation == 2


def test_an_older_registry_is_refused_while_running_and_after_a_restart(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    releases.store.registry.write_bytes(rolled)
    with capture_logs() as logs:
        for _ in range(3):
            assert serving(model) == "v2"
    assert [entry["event"] for entry in logs] == ["model_refused"]
    assert model.refusals_by_code == {"generation-replayed": 1}
    restarted = ModelWatcher(settings)
    assert serving(restarted) is None
    assert restarted.last_refusal is not None
    assert (restarted.last_refusal.version, code(restarted)) == ("v1", "generation-replayed")
    assert str(settings.home) not in restarted.last_refusal.reason


def test_a_rollback_is_a_new_generation_and_passes(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    releases.promote("v1")
    assert (serving(model), serving(ModelWatcher(settings))) == ("v1", "v1")
    assert model.refusals == 0


@pytest.mark.parametrize("change", ["version", "manifest_sha256"])
def test_other_content_of_the_same_generation_is_refused(
    store: Store, rolled: bytes, releases: Any, settings: Settings, change: str
) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    current = read_registry(releases.store)
    value = {"version": "v1", "manifest_sha256": "0" * 64}[change]
    forged = msgspec.structs.replace(current.production, **{change: value})
    write_registry(releases.store, msgspec.structs.replace(current, production=forged))
    assert (serving(model), code(model)) == ("v2", "generation-replayed")
    restarted = ModelWatcher(settings)
    assert (serving(restarted), code(restarted)) == (None, "generation-replayed")


def test_staging_a_challenger_does_not_change_the_generation(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    current = read_registry(releases.store)
    write_registry(releases.store, msgspec.structs.replace(current, staging=current.production))
    model = ModelWatcher(settings)
    assert (serving(model), model.refusals) == ("v2", 0)


def test_a_withdrawal_is_recorded(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    # Generation 2: it is older than the withdrawal, but not than what was served before.
    before = releases.store.registry.read_bytes()
    write_registry(releases.store, Registry(problem="wdbc", generation=3))
    assert (serving(model), model.refusals) == (None, 0)
    stored = read_last_served(releases.store, settings.records / FILE)
    assert stored == ServedGeneration(generation=3, version=None, manifest_sha256=None)
    releases.store.registry.write_bytes(before)
    for watcher in (model, ModelWatcher(settings)):
        assert (serving(watcher), code(watcher)) == (None, "generation-replayed")


def test_a_new_generation_of_the_same_version_is_recorded(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    before = releases.store.registry.read_bytes()
    releases.promote("v2")
    assert serving(model) == "v2"
    stored = read_last_served(releases.store, settings.records / FILE)
    assert stored is not None
    assert stored.generation == 3
    releases.store.registry.write_bytes(before)
    for watcher, version in ((model, "v2"), (ModelWatcher(settings), None)):
        assert (serving(watcher), code(watcher)) == (version, "generation-replayed")


def test_a_registry_that_is_missing_at_a_restart_is_refused(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    releases.store.registry.unlink()
    model = ModelWatcher(settings)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert (code(model), model.last_refusal.reason) == (
        "artifact-corrupt",
        "registry.json is gone.",
    )


def test_a_restored_backup_is_accepted_once_the_file_is_deleted(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    releases.store.registry.write_bytes(rolled)
    model = ModelWatcher(settings)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert f"delete BC_HOME/records/wdbc/{FILE}" in model.last_refusal.reason
    (settings.records / FILE).unlink()
    restarted = ModelWatcher(settings)
    assert (serving(restarted), restarted.refusals) == ("v1", 0)
    served = read_last_served(releases.store, settings.records / FILE)
    assert served is not None
    assert served.generation == 1


def test_a_deleted_file_is_written_again(rolled: bytes, settings: Settings) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    (settings.records / FILE).unlink()
    assert serving(model) == "v2"
    assert (settings.records / FILE).is_file()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 9}', b'{"format": 1}'])
def test_with_a_damaged_file_the_model_is_not_replaced(
    rolled: bytes, releases: Any, settings: Settings, content: bytes
) -> None:
    model = ModelWatcher(settings)
    assert serving(model) == "v2"
    (settings.records / FILE).write_bytes(content)
    releases.promote("v1")
    assert (serving(model), code(model)) == ("v2", "artifact-corrupt")
    restarted = ModelWatcher(settings)
    assert serving(restarted) is None
    assert restarted.last_refusal is not None
    assert f"delete BC_HOME/records/wdbc/{FILE}" in restarted.last_refusal.reason


def test_without_a_writable_folder_the_worker_relies_on_its_memory(
    store: Store, rolled: bytes, releases: Any, settings: Settings
) -> None:
    # Nobody, not even root, can make a folder there.
    model = ModelWatcher(settings.model_copy(update={"records_dir": Path("/proc/records")}))
    with capture_logs() as logs:
        assert serving(model) == "v2"
        assert serving(model) == "v2"
    assert [entry["event"] for entry in logs].count("generation_not_recorded") == 1
    releases.store.registry.write_bytes(rolled)
    assert (serving(model), code(model)) == ("v2", "generation-replayed")


def test_the_stored_generation_never_falls(store: Store, tmp_path: Path) -> None:
    one, two = ReplayGuard(store, tmp_path), ReplayGuard(store, tmp_path)
    assert one.read() is None
    two.record(signed(store, registry(5)))
    one.record(signed(store, registry(4)))
    stored = read_last_served(store, tmp_path / FILE)
    assert stored == ServedGeneration(generation=5, version="v", manifest_sha256="d")
    assert one.read() == stored


def test_a_worker_refuses_other_content_of_a_generation_that_another_worker_stored(
    store: Store,
    tmp_path: Path,
) -> None:
    ReplayGuard(store, tmp_path).record(signed(store, registry(5)))
    with pytest.raises(GenerationReplayed, match=f"delete {tmp_path / FILE} and restart"):
        ReplayGuard(store, tmp_path).record(signed(store, registry(5, digest="other")))
    stored = read_last_served(store, tmp_path / FILE)
    assert stored is not None
    assert stored.manifest_sha256 == "d"


def test_a_file_that_cannot_be_read_is_corrupt_and_says_why(store: Store, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.mkdir()
    with pytest.raises(ArtifactCorrupt) as refused:
        read_last_served(store, path)
    message = f"{FILE} does not say which generation was served last: "
    assert refused.value.message == f"{message}Is a directory"
    assert refused.value.path == str(path)
    assert f"delete {path}, restart" in refused.value.remedy
    path.rmdir()
    path.write_bytes(b'{"format": 1}')
    with pytest.raises(ArtifactCorrupt, match=f"{message}.*registry"):
        read_last_served(store, path)


def test_a_lower_generation_does_not_replace_the_remembered_one(store: Store) -> None:
    # The folder cannot be written, so that only memory counts.
    guard = ReplayGuard(store, Path("/proc/records"))
    for recorded, highest in ((1, 1), (5, 5), (4, 5)):
        guard.record(signed(store, registry(recorded)))
        known = guard.read()
        assert known is not None
        assert known.generation == highest


def test_a_generation_that_is_stored_is_not_written_again(store: Store, tmp_path: Path) -> None:
    guard = ReplayGuard(store, tmp_path)
    guard.record(signed(store, registry(5)))
    before = (tmp_path / FILE).stat()
    for generation in (5, 4):
        guard.record(signed(store, registry(generation)))
    # Nor by another worker, which reads the file under the lock.
    ReplayGuard(store, tmp_path).record(signed(store, registry(5)))
    after = (tmp_path / FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_busy_lock_delays_no_worker_for_long(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_guard, "_LOCK_SECONDS", 0.01)
    with locked(tmp_path / f".{FILE}.lock", timeout=1), capture_logs() as logs:
        ReplayGuard(store, tmp_path).record(signed(store, registry(5)))
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("generation_not_recorded", "TransientError")
    ]
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("generation", "version", "digest"),
    [(4, "v", "d"), (5, "w", "d"), (5, "v", "e"), (5, None, "d")],
)
def test_an_earlier_or_changed_generation_is_refused(
    tmp_path: Path, generation: int, version: str | None, digest: str
) -> None:
    path = tmp_path / FILE
    served = ServedGeneration(generation=5, version="v", manifest_sha256="d")
    with pytest.raises(GenerationReplayed) as refused:
        require_not_replayed(registry(generation, version, digest), served, path)
    assert (refused.value.served, refused.value.found) == (5, generation)
    assert f"delete {path} and restart" in refused.value.remedy
    assert refused.value.message == (
        "The registry has generation 4, and generation 5 was served already."
        if generation == 4
        else f"Generation 5 was served with v, and now names {version}, or other bytes of it."
    )
    for accepted in (registry(5), registry(6, "w", "e"), registry(6, None)):
        require_not_replayed(accepted, served, path)
    require_not_replayed(registry(generation, version, digest), None, path)


def test_nothing_is_stored_of_a_problem_without_champion(store: Store, tmp_path: Path) -> None:
    ReplayGuard(store, tmp_path / "records").record(signed(store, registry(0, None)))
    assert not (tmp_path / "records").exists()


def _record_generations(home: str, folder: str, first: int) -> None:
    store = Store(Path(home), "wdbc")
    guard = ReplayGuard(store, Path(folder))
    for generation in range(first, 200, 4):
        guard.record(signed(store, registry(generation)))
        read = guard.read()
        assert read is not None
        assert read.generation >= generation


@pytest.mark.integration
def test_concurrent_workers_store_the_highest_generation(store: Store, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_record_generations, args=(str(store.home), str(tmp_path), first))
        for first in range(1, 5)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    stored = read_last_served(store, tmp_path / FILE)
    assert stored is not None
    assert stored.generation == 199
    assert [path for path in os.listdir(tmp_path) if path.endswith(".json")] == [FILE]
