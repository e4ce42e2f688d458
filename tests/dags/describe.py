"""Load the DAG files and the plugin as Airflow does, and write down what it understood."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PLUGINS = os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"]
BEGAN = time.process_time()
# Loaded first: modules that every DAG file loads, in any project.
from airflow.sdk import DAG
from airflow.sdk.definitions._internal.types import is_arg_set

for name in ("decorators.python", "operators.hitl"):
    importlib.import_module(f"airflow.providers.standard.{name}")

BEFORE = set(sys.modules)
AIRFLOW_READY = time.process_time()


def describe_task(task: Any) -> dict[str, Any]:
    return {
        "display_name": task.task_display_name,
        "upstream": sorted(task.upstream_task_ids),
        "owner": task.owner,
        "retries": task.retries,
        "retry_seconds": task.retry_delay.total_seconds(),
        "backoff": task.retry_exponential_backoff,
        "rules": [(rule.exception_path, rule.action.value) for rule in task.retry_policy.rules],
        "timeout_seconds": task.execution_timeout and task.execution_timeout.total_seconds(),
        "trigger_rule": str(task.trigger_rule.value),
        "pool": task.pool,
        "failure_callbacks": [
            # A mapped task has the callback itself, any other a list.
            callback.__name__
            for callback in (
                task.on_failure_callback
                if isinstance(task.on_failure_callback, list)
                else [task.on_failure_callback]
            )
        ],
        "outlets": [(asset.name, asset.uri) for asset in task.outlets],
        "mapped": task.is_mapped,
        "group": task.task_group.group_id if task.task_group else None,
    }


def describe_dag(dag: DAG) -> dict[str, Any]:
    timetable: Any = dag.timetable
    cron = getattr(timetable, "timetable", timetable)
    assets = getattr(timetable, "asset_condition", None)
    return {
        "doc": dag.doc_md or "",
        "tags": sorted(dag.tags),
        "owner": dag.owner,
        "timetable": type(timetable).__name__,
        "cron": getattr(cron, "expression", None),
        "interval": type(cron).__name__,
        "timezone": str(getattr(cron, "timezone", None)),
        "assets": [asset.name for asset in assets.objects] if assets else [],
        "start": dag.start_date.isoformat() if dag.start_date else None,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "is_paused_upon_creation": dag.is_paused_upon_creation,
        "params": {
            name: dag.params.get_param(name).schema
            | {
                "default": (
                    dag.params.get_param(name).value
                    if is_arg_set(dag.params.get_param(name).value)
                    else "required"
                ),
                "description": dag.params.get_param(name).description,
            }
            for name in dag.params
        },
        "tasks": {task.task_id: describe_task(task) for task in dag.tasks},
        "order": [task.task_id for task in dag.topological_sort()],
    }


def status_without_login(app: Any) -> int:
    """What Airflow's own authorisation answers to somebody it does not know."""
    from fastapi.testclient import TestClient

    return TestClient(app).get("/dags/wdbc_retrain").status_code


def main(answer: str) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    before_parsing = time.process_time()
    bag = DagBag()
    parsed = time.process_time()
    loaded = sorted(set(sys.modules) - BEFORE)
    for dag in bag.dags.values():
        DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))

    from airflow import plugins_manager

    views, _ = plugins_manager._get_ui_plugins()
    apps, _ = plugins_manager.get_fastapi_plugins()
    report = {
        "airflow_cpu_seconds": AIRFLOW_READY - BEGAN,
        "parsing_cpu_seconds": parsed - before_parsing,
        "loaded": loaded,
        "import_errors": bag.import_errors,
        "dags": {dag.dag_id: describe_dag(dag) for dag in bag.dags.values()},
        "plugin_errors": plugins_manager._get_plugins()[1],
        "views": views,
        "apps": [(app["name"], app["url_prefix"]) for app in apps],
        "status_without_login": status_without_login(apps[0]["app"]),
        "top_level_modules": sorted(
            name
            for name, module in list(sys.modules.items())
            if "." not in name and (getattr(module, "__file__", None) or "").startswith(PLUGINS)
        ),
    }
    Path(answer).write_text(json.dumps(report))


main(sys.argv[-1])
