"""`promote`, `approve` and `rollback`: a reason, a person, and the champion's Asset."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.cli import caller, releases
from bc_pipeline.settings import Settings
from bc_pipeline.stack.champion_asset import update_champion_asset
from tests.unit.commands import invoke, run_command

VERSION = "20260601T000000Z-logistic-3f2a9c1b7d"


@pytest.mark.parametrize("words", [("promote", VERSION), ("approve", VERSION), ("rollback",)])
@pytest.mark.parametrize("reason", [(), ("--reason", "  ")])
def test_without_a_reason_and_nobody_to_ask_it_is_wrong_usage(
    words: tuple[str, ...], reason: tuple[str, ...]
) -> None:
    result = invoke(*words, *reason)
    assert result.exit_code == 2
    assert "--reason" in result.stderr


def test_who_approved_is_nothing_that_somebody_types() -> None:
    assert invoke("promote", VERSION, "--approved-by", "me", "--reason", "r").exit_code == 2


def test_the_actor_is_the_systems_user_whatever_the_variables_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody_else")
    name = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert caller.actor() == f"cli:{name} (uid {os.getuid()})"


def test_under_sudo_the_caller_is_named_and_only_root_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SUDO_UID", "54321")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert caller.actor() == "cli:uid 54321, as root (uid 0)"
    monkeypatch.setattr(os, "getuid", lambda: 54322)
    assert caller.actor() == "cli:uid 54322"


@pytest.mark.usefixtures("store")
def test_without_a_version_there_is_nothing_to_promote() -> None:
    result = run_command("promote", VERSION, "--reason", "r", "--json", code=6)
    assert json.loads(result.stdout)["error"]["code"] == "version-not-found"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an Airflow with two Assets of similar names was sent."""
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            names = ("wdbc_champion_2", "wdbc_champion")
            assets = [{"id": number, "name": name} for number, name in enumerate(names)]
            return httpx.Response(200, json={"assets": assets})
        bodies.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={})

    @contextmanager
    def log_in(*_: Any) -> Iterator[AirflowApi]:
        transport = httpx.MockTransport(answer)
        with httpx.Client(base_url="http://airflow", transport=transport) as client:
            yield AirflowApi(client, 1.0)

    monkeypatch.setattr(AirflowApi, "log_in", log_in)
    return bodies


def test_the_champions_asset_is_updated_as_the_dag_does(
    settings: Settings, sent: list[Any]
) -> None:
    assert update_champion_asset(settings, "wdbc", VERSION, 4) == ""
    event = {"asset_id": 1, "extra": {"version": VERSION, "generation": 4}}
    assert sent == [("/api/v2/assets/events", event)]
    assert update_champion_asset(settings, "other", VERSION, 4) == (
        "Airflow has no Asset other_champion."
    )


def test_without_airflow_it_is_said_that_batch_scoring_follows_later(settings: Settings) -> None:
    assert "the stack is not set up" in update_champion_asset(settings, "wdbc", VERSION, 4)


def test_a_mirror_that_is_behind_is_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    releases.warn_of_mirror({"failed": 0, "reason": ""})
    releases.warn_of_mirror({"failed": 1, "reason": "The model mirrors a volume. " * 20})
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 220
    assert line.startswith("MLflow is 1 entry behind (The model mirrors a volume. The")
    assert line.endswith(" ...). The next run or release catches up; see `bc-pipeline status`.")
