"""A real PostgreSQL that stops and comes back under a real drainer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bc_pipeline.errors import RecordsAway
from bc_pipeline.problems import get_problem
from bc_pipeline.records.database import open_database
from bc_pipeline.records.entry import Entry
from bc_pipeline.records.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.records.predictions import find_prediction
from bc_pipeline.records.spool import Spool
from bc_pipeline.records.status import read_status
from bc_pipeline.records.tables import predictions
from bc_pipeline.settings import Settings
from tests.unit.records.postgres import Postgres


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def until(true: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


def test_nothing_is_lost_and_it_goes_on_within_ten_seconds(
    tmp_path: Path,
    own_postgres: Postgres,
    spool_of: Callable[..., Spool],
    entry: Callable[..., Entry],
) -> None:
    settings = Settings(home=tmp_path, records_url=own_postgres.url())
    environment = os.environ | {"BC_HOME": str(tmp_path), "BC_RECORDS_URL": own_postgres.url()}
    labels = get_problem("wdbc").labels
    spool = spool_of(settings)
    answered: list[str] = []

    def answer(number: int) -> str:
        made = [entry() for _ in range(number)]
        spool.append(made)
        answered.extend(one.id for one in made)
        return answered[-1]

    def database() -> str:
        status = read_status(settings.records)
        return status.database if status else ""

    log = tmp_path / "drainer.log"
    with log.open("wb") as stream:
        drainer = subprocess.Popen(
            [sys.executable, "-m", "bc_pipeline.records"], env=environment, stderr=stream
        )
    try:
        early = answer(100)
        until(lambda: database() == "ok", 20)
        until(lambda: find_prediction(settings, early).drained, 10)

        own_postgres.stop()
        until(lambda: database() == "away", 10)
        while_away = answer(500)
        found = find_prediction(settings, while_away)
        assert not found.drained
        with pytest.raises(RecordsAway):
            record_outcomes(settings, [OutcomeReport(early, True, "lab")], labels)

        own_postgres.start()
        back = until(lambda: database() == "ok", 10)
        assert back < 10
        until(lambda: find_prediction(settings, while_away).drained, 10)
        answer(50)
    finally:
        drainer.terminate()
        assert drainer.wait(20) == 0
    with open_database(settings).reading() as connection:
        stored = set(connection.execute(sa.select(predictions.c.id)).scalars())
    open_database(settings).close()
    assert stored == set(answered)
    assert Postgres.PASSWORD not in log.read_text()
