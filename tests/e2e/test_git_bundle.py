"""DAGs from a Git repository: a run keeps the commit it was made with, and its manifest says so."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.code_version import sources_digest
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import components
from bc_pipeline.stack.credentials import make_secrets
from bc_pipeline.stack.supervisor import ComponentProcess, Supervisor
from tests.e2e.running import free_ports
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DAG = "wdbc_batch_score"
CALL = "return score_or_skip(name, scores)"
AIRFLOW = ("airflow-migrate", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor")


class Repository:
    """A repository that others fetch from, and somebody's clone of it."""

    def __init__(self, folder: Path) -> None:
        self.shared, self.clone = folder / "shared.git", folder / "clone"
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", self.shared], check=True)
        subprocess.run(["git", "init", "--quiet", "-b", "main", self.clone], check=True)
        self.git("remote", "add", "origin", str(self.shared))
        shutil.copytree(ROOT / "dags", self.clone / "dags")
        self.first = self.push("as released")

    @property
    def dag_file(self) -> Path:
        return self.clone / "dags" / "batch_score.py"

    def push(self, message: str) -> str:
        """Commit everything, and give the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", "main")
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@localhost")
        done = subprocess.run(
            ["git", "-C", self.clone, *who, *words], capture_output=True, text=True, check=True
        )
        return done.stdout


def documented_bundle(repository: Repository) -> str:
    """The configuration that the documentation gives, for a repository on this disk."""
    page = (ROOT / "docs" / "airflow.md").read_text()
    (text,) = re.findall(r"```json\n(\[.*?\])\n```", page, re.DOTALL)
    (bundle,) = json.loads(text)
    del bundle["kwargs"]["git_conn_id"]
    bundle["kwargs"] |= {"repo_url": str(repository.shared), "refresh_interval": 1}
    return json.dumps([bundle])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("git is missing: 'apt-get install git' brings it")
    return Repository(tmp_path)


@pytest.fixture
def airflow(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], AbstractContextManager[AirflowApi]]]:
    """Airflow's processes; ready once the function has logged in."""
    monkeypatch.setenv(
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", documented_bundle(repository)
    )
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL", "1")
    settings = Settings(airflow_port=free_ports(1)[0])
    make_secrets(settings)
    for folder in ("airflow", "logs"):
        make_directory(settings.home / folder)
    children = [ComponentProcess(part) for part in components(settings) if part.name in AIRFLOW]
    supervisor = Supervisor(settings, children)
    thread = threading.Thread(target=supervisor.run)
    thread.start()

    def log_in() -> AbstractContextManager[AirflowApi]:
        wait_until(lambda: all(child.is_up for child in children), 600, "Airflow is ready")
        return AirflowApi.log_in(settings)

    try:
        yield log_in
    finally:
        supervisor.stop()
        thread.join()


def finished(api: AirflowApi, run_id: str) -> dict[str, Any]:
    """What the scoring task of a run returned, once the run has succeeded."""
    *_, (state, _) = api.follow(DAG, run_id, 600)
    assert state == "success"
    return dict(api.task_result(DAG, run_id, "score"))


def test_a_run_keeps_its_commit_whatever_is_pushed_meanwhile(
    airflow: Callable[[], AbstractContextManager[AirflowApi]],
    repository: Repository,
    releases: Any,
    fitted: Any,
    wdbc: Problem,
    reference: tuple[np.ndarray, np.ndarray],
    settings: Settings,
) -> None:
    champion = "20261115T000000Z-logistic-0000000000"
    releases.publish(champion, fitted[0])
    releases.promote(champion)
    # Two files: runs of one second with the same inputs share their scores.
    sources = [settings.home / "early.csv", settings.home / "late.csv"]
    for source in sources:
        with source.open("w", newline="") as stream:
            csv.writer(stream).writerows([wdbc.schema.names, *reference[0].tolist()])
    runs = [{"logical_date": None, "conf": {"source": str(source)}} for source in sources]
    plugin = ROOT / "plugins" / "bc_airflow"

    before = repository.first
    digests = {before: sources_digest(plugin, [repository.dag_file])}
    with airflow() as api:
        api.wait_for_dag(DAG, 60)
        assert api.dag(DAG)["bundle_version"] == before
        # The DAG is paused: the run waits, and meanwhile its code changes.
        early = api.trigger(DAG, runs[0])
        text = repository.dag_file.read_text()
        assert CALL in text
        repository.dag_file.write_text(text.replace(CALL, f'{CALL} | {{"changed": True}}'))
        after = repository.push("another one")
        digests[after] = sources_digest(plugin, [repository.dag_file])
        wait_until(lambda: api.dag(DAG)["bundle_version"] == after, what="the push is seen")
        late = api.trigger(DAG, runs[1])
        api.unpause(DAG)
        results = {commit: finished(api, run) for commit, run in ((before, early), (after, late))}

    assert [result.get("changed") for result in results.values()] == [None, True]
    for (commit, result), run_id in zip(results.items(), (early, late), strict=True):
        manifest = json.loads((settings.home / result["output"] / "manifest.json").read_text())
        assert manifest["origin"]["run_id"] == run_id
        dag = manifest["origin"]["dag"]
        assert (dag["bundle"], dag["bundle_version"]) == ("bc_pipeline", commit)
        assert dag["sha256"] == digests[commit]
