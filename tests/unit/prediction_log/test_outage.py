"""A real PostgreSQL that stops and comes back under a real drainer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bc_pipeline.errors import RecordsAway
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.entry import LogEntry
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.prediction_log.status import read_status
from bc_pipeline.prediction_log.tables import predictions
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from tests.postgres import Postgres, running_postgres
from tests.waiting import PATIENCE, wait_until


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


def test_no_entry_is_lost_in_an_outage_and_draining_resumes(
    tmp_path: Path,
    own_postgres: Postgres,
    spool_of: Callable[..., Spool],
    entry: Callable[..., LogEntry],
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
            [sys.executable, "-m", "bc_pipeline.prediction_log"], env=environment, stderr=stream
        )
    try:
        early = answer(100)
        wait_until(lambda: database() == "ok")
        wait_until(lambda: find_prediction(settings, early).drained)

        own_postgres.stop()
        wait_until(lambda: database() == "away")
        during_outage = answer(500)
        found = find_prediction(settings, during_outage)
        assert not found.drained
        with pytest.raises(RecordsAway):
            record_outcomes(settings, [OutcomeReport(early, True, "lab")], labels)

        own_postgres.start()
        wait_until(lambda: database() == "ok")
        wait_until(lambda: find_prediction(settings, during_outage).drained)
        answer(50)
    finally:
        drainer.terminate()
        assert drainer.wait(PATIENCE) == 0
    with open_database(settings).read_transaction() as connection:
        stored = set(connection.execute(sa.select(predictions.c.id)).scalars())
    open_database(settings).close()
    assert stored == set(answered)
    assert Postgres.PASSWORD not in log.read_text()
