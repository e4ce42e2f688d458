"""Stores of earlier releases must keep opening; `fixtures/README.md` says how they were made."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.files import encode_document, make_directory
from bc_pipeline.artifacts.predictors import load_predictor
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.remembered_tip import FILE as TIP_FILE
from bc_pipeline.artifacts.signed_document import require_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import FILE, STORE_FORMAT, read_format
from bc_pipeline.artifacts.versions import list_versions, open_champion
from bc_pipeline.backup.create import create_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.data.batches import list_batches
from bc_pipeline.data.snapshot import load_dataset, make_snapshot
from bc_pipeline.errors import ArtifactCorrupt, AuditBroken, SignatureInvalid, StoreUnfit
from bc_pipeline.prediction_log.database import newest_migration, open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.prediction_log.segments import backlog_bytes, list_segments, spool_folder
from bc_pipeline.problems import get_problem
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.anchor import read_anchor
from bc_pipeline.promotion.batch_decisions import check_batches
from bc_pipeline.settings import Settings
from bc_pipeline.stack.resigning import list_signed_files
from bc_pipeline.stack.upgrade import upgrade
from bc_pipeline.steps import Run, find_news
from tests.unit.backup.age_keys import make_key
from tests.volumes import FIXTURES, copy_earlier_store

VERSION = "20261121T181639Z-logistic-2a39830e8e"
DATASET = "f6f4de49d6156cd3"
# Withdrawn and restored in the store of format 2.
WITHDRAWN = "07b74ee31adaaf79"
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
    copy_earlier_store(settings)
    yield settings
    open_database(settings).close()


@pytest.fixture
def store(old: Settings) -> Store:
    return Store(old.home, "wdbc")


def require_all(settings: Settings) -> None:
    """Everything that the store holds, found by the code of now once it was upgraded."""
    upgrade(settings)
    store, problem = Store(settings.home, "wdbc"), get_problem("wdbc")
    champion = open_champion(store, settings.verify_key)
    champion.verify_all()
    assert champion.manifest.version == VERSION
    report = audit.verify(store)
    # The last line is signed, and covers those of the first release.
    assert (report.lines, report.unsigned_lines) == (4, 3)
    reference = problem.load_reference()
    predictor = load_predictor(champion)
    probability = predictor.positive(reference.values)
    assert predictor.positive_one(reference.values[0].tolist()) == probability[0]
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


def test_the_fixture_has_no_format_file(old: Settings) -> None:
    assert not (old.home / FILE).exists()
    assert read_format(old.home) == 1


def test_an_older_version_opens_verifies_and_predicts(old: Settings, store: Store) -> None:
    require_all(old)
    assert list_versions(store) == [VERSION]
    assert read_registry(store).generation == 1


@pytest.mark.parametrize("read", [read_registry, list_batches])
def test_an_older_document_is_refused_until_it_was_upgraded(
    old: Settings, store: Store, read: Callable[[Store], object]
) -> None:
    with pytest.raises(SignatureInvalid, match="is not signed") as caught:
        read(store)
    assert "bc-pipeline upgrade" in caught.value.remedy
    upgrade(old)
    read(store)


def test_an_upgrade_tells_what_it_signs_and_leaves_the_files_as_they_were(old: Settings) -> None:
    before = {path: path.read_bytes() for path in old.home.glob("[dm]*/**/*") if path.is_file()}
    planned = upgrade(old, dry_run=True)
    done = upgrade(old)
    assert planned.signed == done.signed
    assert done.refused == ()
    assert set(done.signed) == {
        *(f"data/wdbc/batches/{batch}.json" for batch in ("07b74ee31adaaf79", "5446145227eb2441")),
        f"data/wdbc/datasets/{DATASET}.json",
        "models/wdbc/registry.json",
    }
    # The service of an earlier release goes on reading them.
    assert {path: path.read_bytes() for path in before} == before
    again = upgrade(old)
    assert (again.signed, again.steps) == ((), ())


@pytest.mark.parametrize(
    ("file", "old_text", "new_text"),
    [
        ("data/wdbc/batches/07b74ee31adaaf79.json", '"accepted": ', '"accepted": 1'),
        ("data/wdbc/batches/07b74ee31adaaf79.json", '"batch": "07', '"batch": "17'),
        (f"data/wdbc/datasets/{DATASET}.json", '"sha256": "', '"sha256": "0'),
        ("models/wdbc/registry.json", '"generation": 1', '"generation": 1000000000'),
    ],
)
def test_an_upgrade_signs_nothing_that_contradicts_the_rest(
    old: Settings, file: str, old_text: str, new_text: str
) -> None:
    path = old.home / file
    sound = path.read_text()
    path.write_text(sound.replace(old_text, new_text, 1))
    with pytest.raises(StoreUnfit, match=r"1 file not signed") as caught:
        upgrade(old)
    assert file in caught.value.message
    assert read_format(old.home) == 1
    path.write_text(sound)
    assert upgrade(old).signed == (file,)
    require_all(old)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("log", ["signed", "unsigned"])
def test_a_volume_whose_signatures_were_removed_is_not_signed_again(
    old: Settings, store: Store, log: str, dry_run: bool
) -> None:
    upgrade(old)
    make_directory(old.records)
    (old.records / TIP_FILE).write_bytes(encode_document(read_audit_log(store).tip))
    for signature in store.models.glob("registry.json.*.sig"):
        signature.unlink()
    (old.home / FILE).unlink()
    if log == "unsigned":
        lines = store.audit.read_bytes().splitlines(keepends=True)
        store.audit.write_bytes(b"".join(lines[:3]))
        refusal = pytest.raises(AuditBroken, match="its end was cut off")
    else:
        refusal = pytest.raises(StoreUnfit, match=r"and 1 file is not: models/wdbc/registry\.json")
    with refusal:
        upgrade(old, dry_run=dry_run)
    assert not list(store.registry.parent.glob("registry.json.*.sig"))
    assert not (old.home / FILE).exists()


def test_an_upgraded_store_has_the_anchor_of_its_first_promotion(
    old: Settings, store: Store
) -> None:
    upgrade(old)
    assert read_audit_log(store).lines[-1].event == "log_signed"
    anchor = read_anchor(store)
    assert anchor is not None
    assert (anchor.version, anchor.reason) == (VERSION, None)


def test_older_data_gives_the_same_dataset(old: Settings, store: Store) -> None:
    upgrade(old)
    problem = get_problem("wdbc")
    assert sum(batch.accepted for batch in list_batches(store)) == 8
    dataset = load_dataset(problem, store, DATASET)
    assert len(dataset) == 8
    again = make_snapshot(problem, store, "2026-11-21T00:00:00Z")
    assert again.document.dataset == DATASET
    assert np.isfinite(dataset.values).all()


def test_an_older_prediction_log_is_drained_into_its_database(old: Settings) -> None:
    assert not find_prediction(old, ONLY_IN_THE_LOG).drained
    assert backlog_bytes(spool_folder(old.records)) > 0
    drainer = Drainer(old, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    assert list_segments(spool_folder(old.records)) == []
    assert find_prediction(old, ONLY_IN_THE_LOG).drained
    assert open_database(old).revision() == newest_migration()
    require_all(old)


def test_an_older_store_is_upgraded(old: Settings) -> None:
    planned = upgrade(old, dry_run=True)
    assert not (old.home / FILE).exists()
    done = upgrade(old)
    assert (done.found, done.format) == (planned.found, planned.format) == (1, STORE_FORMAT)
    assert (done.database_found, done.database) == ("0001", newest_migration())
    assert read_format(old.home) == STORE_FORMAT
    require_all(old)
    assert upgrade(old).steps == ()


def test_an_older_store_is_backed_up_and_restored(old: Settings, tmp_path: Path) -> None:
    key = tmp_path / "backup.key"
    recipients = (make_key(key),)
    settings = old.model_copy(update={"backup_recipients": recipients, "backup_key_file": key})
    created = create_backup(settings, tmp_path / "backup")
    assert created.checked.counts == {"versions": 1, "audit_lines": 3, "tables": 3}
    new = settings.model_copy(update={"home": tmp_path / "new"})
    restore_backup(new, created.path)
    assert read_format(new.home) == 1
    require_all(new)
    open_database(new).close()


def _copy_signed_store(settings: Settings) -> None:
    shutil.copytree(FIXTURES / "store_2", settings.home)


@pytest.fixture
def signed(settings: Settings) -> Settings:
    """The store of format 2, with the keys that signed it."""
    _copy_signed_store(settings)
    return settings


def test_a_signed_store_opens_as_it_is(signed: Settings) -> None:
    store, problem = Store(signed.home, "wdbc"), get_problem("wdbc")
    assert read_format(signed.home) == STORE_FORMAT == 2
    done = upgrade(signed)
    assert (done.steps, done.signed) == ((), ())
    champion = open_champion(store, signed.verify_key)
    champion.verify_all()
    assert (champion.manifest.version, read_registry(store).generation) == (VERSION, 1)
    report = audit.verify(store)
    assert (report.lines, report.unsigned_lines) == (6, 3)
    for path in list_signed_files(store):
        require_signed(store, path)
    assert sum(batch.accepted for batch in list_batches(store)) == 8
    assert make_snapshot(problem, store, "2026-11-21T00:00:00Z").document.dataset == DATASET
    assert check_batches(store) == "2 batches, 0 of them withdrawn"
    open_database(signed).close()


@pytest.mark.parametrize("made", [copy_earlier_store, _copy_signed_store])
def test_an_older_champion_ends_no_run_as_nothing_new(
    settings: Settings, made: Callable[[Settings], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code is another, so that a run trains also where the rows are the champion's."""
    made(settings)
    upgrade(settings)
    store, run = Store(settings.home, "wdbc"), Run("wdbc", "r", "2026-11-22T00:00:00Z")
    champion = open_champion(store, settings.verify_key).manifest
    assert find_news(settings, run, champion.lineage.dataset) == {"new": True, "reason": ""}
    # The same code with other libraries, or with libraries of which nothing is known.
    monkeypatch.setattr(
        "bc_pipeline.steps.news_steps.code_version", lambda: champion.lineage.code_version
    )
    for libraries in (champion.libraries | {"numpy": "0.0.1"}, {}):
        with monkeypatch.context() as patch:
            patch.setattr(
                "bc_pipeline.training.challenger.library_versions", lambda given=libraries: given
            )
            assert find_news(settings, run, champion.lineage.dataset)["new"]
    with monkeypatch.context() as patch:
        patch.setattr(
            "bc_pipeline.training.challenger.library_versions", lambda: champion.libraries
        )
        assert not find_news(settings, run, champion.lineage.dataset)["new"]
        assert find_news(settings, run, DATASET)["new"]
    open_database(settings).close()


def test_a_signed_store_misses_a_removed_decision(signed: Settings) -> None:
    store = Store(signed.home, "wdbc")
    store.batch_history(WITHDRAWN).unlink()
    with pytest.raises(ArtifactCorrupt, match=f"batch {WITHDRAWN} was restored"):
        make_snapshot(get_problem("wdbc"), store, "2026-11-21T00:00:00Z")
