from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.cli.failures import exit_code
from bc_pipeline.errors import AirflowAway, ConfigError, NothingAsOf, StackError
from bc_pipeline.settings import Settings
from bc_pipeline.stack import backfill
from bc_pipeline.stack.backfill import run_backfill
from bc_pipeline.stack.components import airflow_environment
from bc_pipeline.stack.credentials import make_secrets


@pytest.mark.parametrize(
    ("first", "last", "problem"),
    [
        ((2026, 3, 8), (2026, 3, 1), "ends before it starts"),
        ((2026, 3, 2), (2026, 3, 7), "has no Sunday in it"),
        ((2999, 3, 1), (2999, 3, 31), "starts no week that is complete"),
    ],
)
def test_dates_without_a_complete_week_are_refused_before_airflow_is_asked(
    settings: Settings, first: tuple[int, int, int], last: tuple[int, int, int], problem: str
) -> None:
    dates = (datetime(*first, tzinfo=UTC), datetime(*last, tzinfo=UTC))
    with pytest.raises(ConfigError, match=problem):
        start(settings, *dates)


@pytest.mark.parametrize(
    ("data_since", "message", "remedy"),
    [
        (
            datetime(2026, 3, 11, tzinfo=UTC),
            "the first rows arrived on 2026-03-11",
            "--from 2026-03-08",
        ),
        (
            datetime(2026, 3, 15, 0, 0, 1, tzinfo=UTC),
            "the first rows arrived on 2026-03-15",
            "--from 2026-03-15",
        ),
    ],
)
def test_weeks_before_the_data_are_refused_before_airflow_is_asked(
    settings: Settings, data_since: datetime, message: str, remedy: str
) -> None:
    dates = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 21, tzinfo=UTC))
    with pytest.raises(ConfigError) as refused:
        start(settings, *dates, data_since=data_since)
    assert message in refused.value.message
    assert remedy in refused.value.remedy


def test_without_any_data_the_data_are_at_fault_and_no_argument(settings: Settings) -> None:
    dates = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 21, tzinfo=UTC))
    with pytest.raises(NothingAsOf, match="Land a labelled file and ingest it") as refused:
        start(settings, *dates, data_since=None)
    assert exit_code(refused.value) == 4


def test_the_first_week_may_end_when_the_first_rows_arrive(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log_in(*_: Any, **__: Any) -> Any:
        raise AirflowAway("asked")

    monkeypatch.setattr(AirflowApi, "log_in", log_in)
    dates = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 21, tzinfo=UTC))
    with pytest.raises(AirflowAway):
        start(settings, *dates, data_since=datetime(2026, 3, 8, tzinfo=UTC))


def start(
    settings: Settings,
    first: datetime,
    last: datetime,
    data_since: datetime | None = datetime(2020, 1, 1, tzinfo=UTC),
    notify: Any = lambda text: None,
) -> Any:
    return run_backfill(
        settings,
        "wdbc_retrain",
        first,
        last,
        data_since=data_since,
        rerun=False,
        progress=lambda *_: None,
        notify=notify,
    )


class PausableAirflow:
    """A DAG that may be paused, and one run of its backfill, which ends in a state."""

    def __init__(self, *, paused: bool, accepts: bool = True, has_run: bool = False) -> None:
        self.paused = paused
        self.has_run = has_run
        self.accepts = accepts
        self.paused_at_creation: bool | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path
        if path == "/api/v2/dags/wdbc_retrain":
            if method == "PATCH":
                self.paused = json.loads(request.content)["is_paused"]
            return httpx.Response(200, json={"is_paused": self.paused})
        if path == "/api/v2/backfills":
            self.paused_at_creation, self.has_run = self.paused, True
            return httpx.Response(200 if self.accepts else 422, json={"detail": "no"})
        if path == "/api/v2/dags/wdbc_retrain/dagRuns":
            run = {"dag_run_id": "backfill__1", "state": "success"}
            runs = [run] if self.has_run else []
            return httpx.Response(200, json={"dag_runs": runs, "total_entries": len(runs)})
        return httpx.Response(404, json={"detail": "Not found."})


WEEK = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 7, tzinfo=UTC))


def answer_as(airflow: PausableAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def log_in(*_: Any, **__: Any) -> Iterator[AirflowApi]:
        transport = httpx.MockTransport(airflow.answer)
        with httpx.Client(transport=transport, base_url="http://airflow") as client:
            yield AirflowApi(client, 1.0)

    monkeypatch.setattr(AirflowApi, "log_in", log_in)


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_a_paused_dag_runs_for_the_backfill_and_is_paused_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *, paused: bool, accepts: bool
) -> None:
    airflow = PausableAirflow(paused=paused, accepts=accepts)
    answer_as(airflow, monkeypatch)
    said: list[str] = []
    with nullcontext() if accepts else pytest.raises(StackError):
        (run,) = start(settings, *WEEK, notify=said.append)
        assert (run.run_id, run.state) == ("backfill__1", "success")
    assert airflow.paused_at_creation is False
    assert airflow.paused is paused
    assert ["is paused: it runs during the backfill" in text for text in said] == [True] * paused


@pytest.mark.parametrize("has_run", [True, False])
def test_a_week_that_was_backfilled_before_is_said_not_to_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *, has_run: bool
) -> None:
    answer_as(PausableAirflow(paused=False, has_run=has_run), monkeypatch)
    said: list[str] = []
    start(settings, *WEEK, notify=said.append)
    assert ["nothing was run; --rerun" in text for text in said] == [True] * has_run


class Airflow:
    """Answers requests for a backfill with one status after the other."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[Any] = []
        self.said: list[str] = []

    def create(self, *, rerun: bool = False) -> None:
        transport = httpx.MockTransport(self._answer)
        with httpx.Client(transport=transport, base_url="http://airflow") as client:
            first, last = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 14, tzinfo=UTC)
            backfill.create(
                AirflowApi(client, 1.0),
                "wdbc_retrain",
                first,
                last,
                rerun=rerun,
                notify=self.said.append,
            )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/api/v2/backfills")
        self.bodies.append(json.loads(request.content))
        return httpx.Response(self.statuses.pop(0), json={"detail": "No runs to create."})


def test_a_backfill_runs_one_week_at_a_time_and_failed_weeks_again() -> None:
    airflow = Airflow(200, 200)
    airflow.create()
    airflow.create(rerun=True)
    common = {
        "dag_id": "wdbc_retrain",
        "from_date": "2026-03-01T00:00:00+00:00",
        "to_date": "2026-03-14T00:00:00+00:00",
        "max_active_runs": 1,
    }
    assert airflow.bodies == [
        common | {"reprocess_behavior": "failed"},
        common | {"reprocess_behavior": "completed"},
    ]


def test_a_backfill_that_still_runs_and_a_busy_database_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backfill, "RETRY_SECONDS", 0.01)
    airflow = Airflow(409, 503, 200)
    airflow.create()
    assert len(airflow.bodies) == 3
    assert len(airflow.said) == 1
    assert "No runs to create); waiting for it" in airflow.said[0]
    monkeypatch.setattr(backfill, "START_SECONDS", 0.0)
    with pytest.raises(StackError, match="rejected the backfill: Airflow answered 409"):
        Airflow(409, 409, 409).create()


def test_an_answer_is_waited_for_longer_than_airflow_waits_for_its_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secrets(settings)
    database = airflow_environment(settings)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    logged_in: list[float] = []

    def log_in(_: Settings, timeout: float = 30.0) -> Any:
        logged_in.append(timeout)
        raise AirflowAway("Airflow does not answer.")

    monkeypatch.setattr(AirflowApi, "log_in", log_in)
    week = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 7, tzinfo=UTC))
    with pytest.raises(AirflowAway):
        start(settings, *week)
    assert logged_in[0] > float(database.partition("timeout=")[2])


def test_a_rejected_backfill_is_refused_at_once_with_airflow_s_reason() -> None:
    airflow = Airflow(422, 200)
    with pytest.raises(StackError, match=r"rejected the backfill: .*No runs to create"):
        airflow.create()
    assert len(airflow.bodies) == 1
