"""Rules that every DAG keeps, and what each of them is pinned to."""

from __future__ import annotations

from typing import Any

import pytest

from bc_pipeline import errors
from bc_pipeline.problems import PROBLEMS

DAG_IDS = [
    f"{problem.name}_{kind}"
    for problem in PROBLEMS
    for kind in ("approval", "batch_score", "retrain")
]


@pytest.fixture
def retrain(described: dict[str, Any]) -> dict[str, Any]:
    return described["dags"]["wdbc_retrain"]


@pytest.fixture
def score(described: dict[str, Any]) -> dict[str, Any]:
    return described["dags"]["wdbc_batch_score"]


def test_every_file_is_parsed_without_reading_the_settings(described: dict[str, Any]) -> None:
    assert described["import_errors"] == {}
    assert described["plugin_errors"] == {}
    assert sorted(described["dags"]) == DAG_IDS


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_dag_can_be_found_and_understood_by_a_newcomer(
    described: dict[str, Any], dag_id: str
) -> None:
    dag = described["dags"][dag_id]
    assert dag["owner"] == "bc-pipeline"
    # The problem, whose name may have underscores.
    assert any(dag_id.startswith(f"{tag}_") for tag in dag["tags"])
    for word in ("Trigger", "bc-pipeline ", "research use"):
        assert word in dag["doc"]
    for param in dag["params"].values():
        assert param["type"]
        assert param["title"]
        assert param["description"].endswith(".")


SCHEDULED = [dag_id for dag_id in DAG_IDS if not dag_id.endswith("_approval")]


@pytest.mark.parametrize("dag_id", SCHEDULED)
def test_no_dag_catches_up_or_runs_beside_itself(described: dict[str, Any], dag_id: str) -> None:
    dag = described["dags"][dag_id]
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert dag["start"] == "2025-01-05T00:00:00+00:00"
    assert dag["timezone"] == "UTC"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_task_is_alerted_bounded_and_retried(described: dict[str, Any], dag_id: str) -> None:
    for name, task in described["dags"][dag_id]["tasks"].items():
        assert task["failure_callbacks"] == ["notify_failure"], name
        assert task["retries"] == 2, name
        assert task["backoff"] > 1, name
        assert task["display_name"] != name
        # Waiting for a person is bounded by its own limit, which ends in a rejection.
        assert name == "approve" or 0 < task["timeout_seconds"] <= 1800, name


def test_the_taxonomy_decides_about_retries(described: dict[str, Any]) -> None:
    for dag in described["dags"].values():
        for task in dag["tasks"].values():
            assert task["rules"] == [
                ["bc_pipeline.errors.TransientError", "retry"],
                ["bc_pipeline.errors.PipelineError", "fail"],
            ]
    assert issubclass(errors.TransientError, errors.PipelineError)


def test_retrain_is_weekly_with_a_real_interval(retrain: dict[str, Any]) -> None:
    assert (retrain["interval"], retrain["cron"]) == ("CronDataIntervalTimetable", "0 0 * * 0")
    assert retrain["assets"] == []


def test_batch_score_is_daily_or_by_a_new_champion(score: dict[str, Any]) -> None:
    assert score["timetable"] == "AssetOrTimeSchedule"
    assert (score["interval"], score["cron"]) == ("CronDataIntervalTimetable", "0 0 * * *")
    assert score["assets"] == ["wdbc_champion"]
    assert score["tasks"]["score"]["outlets"] == [["wdbc_scores", "bc://wdbc/scores"]]


def test_params_of_retrain(retrain: dict[str, Any]) -> None:
    params = retrain["params"]
    assert {name: (param["type"], param["default"]) for name, param in params.items()} == {
        "as_of": (["null", "string"], None),
        "require_approval": ("boolean", False),
        "train_anyway": ("boolean", False),
        "land_outcomes": ("boolean", False),
        "promote_backfill": ("boolean", False),
    }
    assert params["as_of"]["format"] == "date-time"


def test_an_approval_waits_beside_others_and_is_never_scheduled(described: dict[str, Any]) -> None:
    approval = described["dags"]["wdbc_approval"]
    assert approval["cron"] is None
    assert approval["is_paused_upon_creation"] is False
    assert approval["max_active_runs"] > 1
    assert approval["order"] == ["approve", "promote", "record"]
    assert {name: param["default"] for name, param in approval["params"].items()} == {
        "version": "required",
        "digest": None,
    }
    assert approval["tasks"]["promote"]["outlets"] == [["wdbc_champion", "bc://wdbc/champion"]]
    assert approval["tasks"]["promote"]["pool"] == "promotion"


def test_params_of_batch_score(score: dict[str, Any]) -> None:
    params = score["params"]
    assert {name: param["default"] for name, param in params.items()} == {
        "source": None,
        "engine": "auto",
    }
    assert params["engine"]["enum"] == ["auto", "local", "spark"]


def test_order_of_the_tasks(retrain: dict[str, Any]) -> None:
    assert retrain["order"] == [
        "ingest",
        "validate",
        "snapshot",
        "find_news",
        "train",
        "select",
        "challengers",
        "export",
        "evaluate",
        "decide",
        "choose",
        "request_approval",
        "promote",
        "record",
    ]
    upstream = {name: task["upstream"] for name, task in retrain["tasks"].items()}
    assert upstream["select"] == ["find_news", "train"]
    assert upstream["promote"] == upstream["request_approval"] == ["choose"]
    assert upstream["record"] == ["promote", "request_approval"]
    mapped = {name for name, task in retrain["tasks"].items() if task["mapped"]}
    assert mapped == {"train", "export", "evaluate", "decide"}


def test_a_skip_does_not_stop_what_follows(retrain: dict[str, Any]) -> None:
    rules = {name: task["trigger_rule"] for name, task in retrain["tasks"].items()}
    assert {name for name, rule in rules.items() if rule == "none_failed"} == {"record"}
    assert set(rules.values()) == {"none_failed", "all_success"}


def test_only_promotion_takes_the_one_slot_and_updates_the_champion(
    retrain: dict[str, Any],
) -> None:
    tasks = retrain["tasks"]
    assert [name for name, task in tasks.items() if task["pool"] == "promotion"] == ["promote"]
    assert {name: task["outlets"] for name, task in tasks.items() if task["outlets"]} == {
        "promote": [["wdbc_champion", "bc://wdbc/champion"]]
    }


def test_tasks_stand_in_groups(retrain: dict[str, Any]) -> None:
    groups = {task["group"] for task in retrain["tasks"].values()}
    assert groups == {"data", "model", "release", None}


# Cost of parsing ---------------------------------------------------------------------

HEAVY = {
    "fastapi",
    "great_expectations",
    "httpx",
    "joblib",
    "matplotlib",
    "mlflow",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
}


def test_parsing_loads_no_machine_learning_library(described: dict[str, Any]) -> None:
    loaded = {name.split(".")[0] for name in described["loaded"]}
    assert {"bc_airflow", "bc_pipeline"} <= loaded
    assert loaded & HEAVY == set()


def test_parsing_costs_little_beside_airflow_itself(described: dict[str, Any]) -> None:
    assert described["parsing_cpu_seconds"] < 0.5 * described["airflow_cpu_seconds"]


def test_the_plugin_shadows_no_module_and_opens_three_tabs(described: dict[str, Any]) -> None:
    assert described["top_level_modules"] == ["bc_airflow", "bc_airflow_plugin"]
    assert described["apps"] == [["bc_pipeline", "/bc"]]
    views = {view["name"]: (view["destination"], view["href"]) for view in described["views"]}
    assert views == {
        "Gate verdict": ("dag_run", "/bc/dags/{DAG_ID}/runs/{RUN_ID}"),
        "Models": ("dag", "/bc/dags/{DAG_ID}"),
        "Data docs": ("dag", "/bc/dags/{DAG_ID}/data-docs/index.html"),
    }


def test_airflow_guards_the_pages(described: dict[str, Any]) -> None:
    assert described["status_without_login"] == 401
