from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from bc_pipeline.artifacts.files import write_record
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.versions import read_registry
from bc_pipeline.errors import GenerationReplayed
from bc_pipeline.serving.model.generation import FILE, Generations, read_served
from bc_pipeline.serving.model.live import LiveModel
from bc_pipeline.settings import Settings


def registry(generation: int, version: str | None = "v", digest: str = "d") -> Registry:
    pointer = version and Pointer(
        version, digest, "m", "r", None, {}, 0.5, "d", "2026-11-15T00:00:00Z", "first", "t"
    )
    return Registry(problem="wdbc", generation=generation, production=pointer or None)


def serving(model: LiveModel) -> str | None:
    model.refresh()
    return model.current.version if model.current else None


def code(model: LiveModel) -> str | None:
    return model.last_refusal.code if model.last_refusal else None


@pytest.fixture
def rolled(releases: Any, fitted: Any, settings: Settings) -> bytes:
    """v2 follows v1, and both were served; gives the registry as it was with v1."""
    for name, made in zip(("v1", "v2"), fitted, strict=False):
        releases.publish(name, made)
    model = LiveModel(settings)
    releases.promote("v1")
    assert serving(model) == "v1"
    old: bytes = releases.store.registry.read_bytes()
    releases.promote("v2")
    assert serving(model) == "v2"
    return old


def test_the_form_of_the_file(rolled: bytes, releases: Any, settings: Settings) -> None:
    pointer = read_registry(releases.store).production
    assert pointer is not None
    assert json.loads((settings.records / FILE).read_bytes()) == {
        "format": 1,
        "generation": 2,
        "version": "v2",
        "manifest_sha256": pointer.manifest_sha256,
    }


def test_an_older_registry_is_refused_while_running_and_after_a_restart(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = LiveModel(settings)
    assert serving(model) == "v2"
    releases.store.registry.write_bytes(rolled)
    with capture_logs() as logs:
        for _ in range(3):
            assert serving(model) == "v2"
    assert [entry["event"] for entry in logs] == ["model_refused"]
    assert model.refusals_by_code == {"generation-replayed": 1}
    restarted = LiveModel(settings)
    assert serving(restarted) is None
    assert restarted.last_refusal is not None
    assert (restarted.last_refusal.version, code(restarted)) == ("v1", "generation-replayed")
    assert str(settings.home) not in restarted.last_refusal.reason


def test_a_rollback_is_a_new_generation_and_passes(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = LiveModel(settings)
    assert serving(model) == "v2"
    releases.promote("v1")
    assert (serving(model), serving(LiveModel(settings))) == ("v1", "v1")
    assert model.refusals == 0


@pytest.mark.parametrize("change", ["version", "manifest_sha256"])
def test_a_generation_says_one_thing_only(
    rolled: bytes, releases: Any, settings: Settings, change: str
) -> None:
    model = LiveModel(settings)
    assert serving(model) == "v2"
    found = read_registry(releases.store)
    value = {"version": "v1", "manifest_sha256": "0" * 64}[change]
    forged = msgspec.structs.replace(found.production, **{change: value})
    write_record(releases.store.registry, msgspec.structs.replace(found, production=forged))
    assert (serving(model), code(model)) == ("v2", "generation-replayed")
    restarted = LiveModel(settings)
    assert (serving(restarted), code(restarted)) == (None, "generation-replayed")


def test_staging_a_challenger_does_not_count(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    found = read_registry(releases.store)
    write_record(releases.store.registry, msgspec.structs.replace(found, staging=found.production))
    model = LiveModel(settings)
    assert (serving(model), model.refusals) == ("v2", 0)


def test_an_emptied_pointer_is_remembered_too(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    model = LiveModel(settings)
    assert serving(model) == "v2"
    write_record(releases.store.registry, Registry(problem="wdbc", generation=3))
    assert (serving(model), model.refusals) == (None, 0)
    releases.store.registry.write_bytes(rolled)
    assert (serving(model), code(model)) == (None, "generation-replayed")


def test_a_registry_that_is_gone_at_a_restart_is_a_refusal(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    releases.store.registry.unlink()
    model = LiveModel(settings)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert (code(model), model.last_refusal.reason) == (
        "artifact-corrupt",
        "registry.json is gone.",
    )


def test_a_restored_backup_is_taken_once_the_file_is_deleted(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    releases.store.registry.write_bytes(rolled)
    model = LiveModel(settings)
    assert serving(model) is None
    assert model.last_refusal is not None
    assert f"delete BC_HOME/records/wdbc/{FILE}" in model.last_refusal.reason
    (settings.records / FILE).unlink()
    restarted = LiveModel(settings)
    assert (serving(restarted), restarted.refusals) == ("v1", 0)
    served = read_served(settings.records / FILE)
    assert served is not None
    assert served.generation == 1


def test_a_file_that_was_deleted_while_all_is_well_comes_back(
    rolled: bytes, settings: Settings
) -> None:
    model = LiveModel(settings)
    assert serving(model) == "v2"
    (settings.records / FILE).unlink()
    assert serving(model) == "v2"
    assert (settings.records / FILE).is_file()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 9}', b'{"format": 1}'])
def test_a_damaged_file_takes_no_model_and_costs_none(
    rolled: bytes, releases: Any, settings: Settings, content: bytes
) -> None:
    model = LiveModel(settings)
    assert serving(model) == "v2"
    (settings.records / FILE).write_bytes(content)
    releases.promote("v1")
    assert (serving(model), code(model)) == ("v2", "artifact-corrupt")
    restarted = LiveModel(settings)
    assert serving(restarted) is None
    assert restarted.last_refusal is not None
    assert f"delete BC_HOME/records/wdbc/{FILE}" in restarted.last_refusal.reason


def test_where_nothing_can_be_written_the_worker_goes_by_its_memory(
    rolled: bytes, releases: Any, settings: Settings
) -> None:
    # Nobody, not even root, can make a folder there.
    model = LiveModel(settings.model_copy(update={"records_dir": Path("/proc/records")}))
    with capture_logs() as logs:
        assert serving(model) == "v2"
        assert serving(model) == "v2"
    assert [entry["event"] for entry in logs].count("generation_not_kept") == 1
    releases.store.registry.write_bytes(rolled)
    assert (serving(model), code(model)) == ("v2", "generation-replayed")


def test_what_is_stored_only_rises(tmp_path: Path) -> None:
    one, two = Generations(tmp_path), Generations(tmp_path)
    assert one.read() is None
    two.keep(registry(5))
    one.keep(registry(4))
    stored = read_served(tmp_path / FILE)
    assert stored is not None
    assert stored.generation == 5
    read = one.read()
    assert read is not None
    assert read.generation == 5
    # A worker that has not looked since learns of a forgery before it takes a thing.
    with pytest.raises(GenerationReplayed, match="or other bytes"):
        Generations(tmp_path).keep(registry(5, digest="other"))


def test_nothing_is_remembered_of_a_problem_without_champion(tmp_path: Path) -> None:
    Generations(tmp_path / "records").keep(registry(0, None))
    assert not (tmp_path / "records").exists()


def _climb(folder: str, first: int) -> None:
    generations = Generations(Path(folder))
    for generation in range(first, 200, 4):
        generations.keep(registry(generation))
        read = generations.read()
        assert read is not None
        assert read.generation >= generation


def test_workers_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_climb, args=(str(tmp_path), first)) for first in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    stored = read_served(tmp_path / FILE)
    assert stored is not None
    assert stored.generation == 199
    assert [path for path in os.listdir(tmp_path) if path.endswith(".json")] == [FILE]
