"""Stores of earlier releases must keep opening; `fixtures/README.md` says how they were made."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.artifacts.predictors import load_predictor
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import FILE, STORE_FORMAT, read_format
from bc_pipeline.artifacts.versions import list_versions, open_champion, read_registry
from bc_pipeline.backup.make import make_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.data.batches import list_batches
from bc_pipeline.data.snapshot import load_dataset, make_snapshot
from bc_pipeline.problems import get_problem
from bc_pipeline.promotion import audit
from bc_pipeline.records.database import newest_migration, open_database
from bc_pipeline.records.drain import Drainer
from bc_pipeline.records.predictions import find_prediction
from bc_pipeline.records.segments import backlog, listed, spool_folder
from bc_pipeline.serving.model.generation import FILE as GENERATION
from bc_pipeline.serving.model.generation import read_served, require_not_older
from bc_pipeline.settings import Settings
from bc_pipeline.stack.upgrade import upgrade

FIXTURE = Path(__file__).parent / "fixtures" / "store_1"
VERSION = "20261121T181639Z-logistic-2a39830e8e"
DATASET = "f6f4de49d6156cd3"
# Row of the reference data, id, and the probability of the label that was answered.
ANSWERED = (
    (0, "01a1ff57-fa10-7008-bd9d-34591f78f251", 0.9999999945131453),
    (19, "01a1ff57-fa15-7418-9a4c-73c12d4e0caa", 1 - 0.9065052911706801),
    (100, "01a1ff57-fa1c-782d-9bd1-0879e590ab99", 0.9523341494092156),
    (200, "01a1ff58-03de-71cc-b825-6803bebd02a3", None),
)
ONLY_IN_THE_LOG = ANSWERED[3][1]


@pytest.fixture
def old(settings: Settings) -> Iterator[Settings]:
    """The store, on a volume of its own."""
    shutil.copytree(FIXTURE, settings.home)
    yield settings
    open_database(settings).close()


@pytest.fixture
def store(old: Settings) -> Store:
    return Store(old.home, "wdbc")


def require_all(settings: Settings) -> None:
    """Everything that the store holds, found by the code of now."""
    store, problem = Store(settings.home, "wdbc"), get_problem("wdbc")
    champion = open_champion(store, settings.verify_key)
    champion.verify_all()
    assert champion.manifest.version == VERSION
    assert audit.verify(store).lines == 3
    reference = problem.load_reference()
    probability = load_predictor(champion).positive(reference.values)
    for row, prediction_id, answered in ANSWERED:
        found = find_prediction(settings, prediction_id)
        assert found.version == VERSION
        assert found.values == reference.values[row].astype("<f8").tobytes()
        assert found.probability == pytest.approx(float(probability[row]), abs=1e-12)
        if answered is not None:
            assert found.probability == pytest.approx(answered, abs=1e-12)
    outcome = find_prediction(settings, ANSWERED[0][1]).outcome
    assert outcome is not None
    assert (outcome.positive, outcome.source) == (True, "laboratory")


def test_the_fixture_is_of_before_the_format_was_told(old: Settings) -> None:
    assert not (old.home / FILE).exists()
    assert read_format(old.home) == 1


def test_it_opens_verifies_and_predicts(old: Settings, store: Store) -> None:
    require_all(old)
    assert list_versions(store) == [VERSION]
    registry = read_registry(store)
    path = old.records / GENERATION
    require_not_older(registry, read_served(path), path)


def test_its_data_opens_and_gives_the_same_dataset(old: Settings, store: Store) -> None:
    problem = get_problem("wdbc")
    assert sum(batch.accepted for batch in list_batches(store)) == 8
    dataset = load_dataset(problem, store, DATASET)
    assert len(dataset) == 8
    again = make_snapshot(problem, store, "2026-11-21T00:00:00Z")
    assert again.record.dataset == DATASET
    assert np.isfinite(dataset.values).all()


def test_its_log_is_drained_into_its_database(old: Settings) -> None:
    assert not find_prediction(old, ONLY_IN_THE_LOG).drained
    assert backlog(spool_folder(old.records)) > 0
    drainer = Drainer(old, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    assert listed(spool_folder(old.records)) == []
    assert find_prediction(old, ONLY_IN_THE_LOG).drained
    assert open_database(old).revision() == newest_migration()
    require_all(old)


def test_it_is_upgraded(old: Settings) -> None:
    told = upgrade(old, dry_run=True)
    assert not (old.home / FILE).exists()
    done = upgrade(old)
    assert (done.found, done.format) == (told.found, told.format) == (1, STORE_FORMAT)
    assert (done.database_found, done.database) == ("0001", newest_migration())
    assert read_format(old.home) == STORE_FORMAT
    require_all(old)
    assert upgrade(old).steps == ()


def test_it_is_backed_up_and_restored(old: Settings, tmp_path: Path) -> None:
    key = tmp_path / "backup.key"
    key.write_text(os.urandom(32).hex())
    sealing = old.model_copy(update={"backup_key_file": key})
    made = make_backup(sealing, tmp_path / "backup")
    assert made.checked.checked == {"versions": 1, "audit_lines": 3, "tables": 3}
    new = sealing.model_copy(update={"home": tmp_path / "new"})
    restore_backup(new, made.path)
    upgrade(new)
    require_all(new)
    open_database(new).close()
