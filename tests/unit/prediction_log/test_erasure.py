from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from bc_pipeline.errors import ConfigError
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry
from bc_pipeline.prediction_log.erasure import erase_logged, find_logged
from bc_pipeline.prediction_log.frames import encode_frame, encrypt, records_cipher
from bc_pipeline.prediction_log.insert import insert_durably
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.segments import quarantine_folder
from bc_pipeline.prediction_log.tables import outcomes, predictions
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings


def is_ada(ids: Sequence[str | None], values: np.ndarray) -> np.ndarray:
    return np.array([name == "ada" for name in ids], dtype=bool)


def drain(settings: Settings) -> None:
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    drainer.close()


def stored_ids(database: Database) -> set[str]:
    with database.read_transaction() as connection:
        return set(connection.execute(sa.select(predictions.c.id)).scalars())


def test_predictions_go_from_database_and_open_segments_with_their_outcomes(
    log_settings: Settings, database: Database, entry: Callable[..., LogEntry], spool_of
) -> None:
    old, hers, other = entry(sample_id="ada"), entry(sample_id="ada"), entry(sample_id="eve")
    assert insert_durably(database, [old]) == []
    spool = spool_of(log_settings)
    spool.append([hers, other])
    record_outcomes(log_settings, [OutcomeReport(old.id, True, "lab")], get_problem("wdbc").labels)

    found = find_logged(log_settings, 30, is_ada)
    assert (found.ids, found.values.shape, found.unread) == ({old.id, hers.id}, (2, 30), ())
    assert erase_logged(log_settings, found.ids) == (2, 1)
    assert stored_ids(database) == {other.id}
    with database.read_transaction() as connection:
        assert connection.execute(sa.select(outcomes)).all() == []
    folder = segments.spool_folder(log_settings.records)
    assert segments.find_entries(folder, {hers.id, other.id}).keys() == {other.id}
    assert not any(b"ada" in path.read_bytes() for path in segments.list_segments(folder))

    later = entry(sample_id="bob")
    spool.append([later])
    (folder / segments.OFFSETS_FILE).unlink()
    drain(log_settings)
    assert stored_ids(database) == {other.id, later.id}
    assert list(quarantine_folder(log_settings.records).glob("*")) == []
    assert erase_logged(log_settings, find_logged(log_settings, 30, is_ada).ids) == (0, 0)


def test_encrypted_predictions_are_found_with_their_key_alone(
    settings: Settings, entry: Callable[..., LogEntry], key_file: Path, spool_of
) -> None:
    encrypted = settings.model_copy(update={"records_key_file": key_file})
    hers = entry(sample_id="ada")
    spool_of(encrypted).append([hers, entry()])
    with pytest.raises(ConfigError, match="key that is not at hand"):
        find_logged(settings, 30, is_ada)
    assert find_logged(encrypted, 30, is_ada).ids == {hers.id}
    drain(encrypted)
    assert erase_logged(encrypted, find_logged(encrypted, 30, is_ada).ids) == (1, 0)
    assert find_logged(encrypted, 30, is_ada).ids == frozenset()


def test_quarantined_entries_go_and_damaged_ones_are_named(
    settings: Settings, entry: Callable[..., LogEntry], key_file: Path
) -> None:
    folder = quarantine_folder(settings.records)
    folder.mkdir(parents=True)
    hers, other = entry(sample_id="ada"), entry()
    for one in (hers, other):
        (folder / f"{one.id}.refused").write_bytes(encode_frame(one))
    (folder / f"{entry().id}-worker-0-8.damaged").write_bytes(b"\xff" * 40)
    found = find_logged(settings, 30, is_ada)
    assert len(found.unread) == 1
    assert erase_logged(settings, found.ids) == (1, 0)
    assert not (folder / f"{hers.id}.refused").exists()
    assert (folder / f"{other.id}.refused").exists()
    encrypted = settings.model_copy(update={"records_key_file": key_file})
    cipher = records_cipher(encrypted)
    assert cipher is not None
    (folder / f"{hers.id}.refused").write_bytes(encode_frame(encrypt(hers, cipher)))
    assert find_logged(encrypted, 30, is_ada).ids == {hers.id}
