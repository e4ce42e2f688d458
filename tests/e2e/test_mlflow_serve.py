"""The service and ``mlflow models serve``, asked the same about the same model.

The model is the one that MLflow was told of after a promotion, as `training.mirror` logs it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from bc_pipeline.artifacts import signed_bundle, versions
from bc_pipeline.artifacts.evidence import Confusion, Evaluation, Parity, Score, Side
from bc_pipeline.artifacts.files import write_document
from bc_pipeline.artifacts.model_files import dump_estimator
from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.promotion import audit
from bc_pipeline.training.mirror import mirror
from tests.e2e.running import free_ports
from tests.waiting import PATIENCE, wait_until

KEY = "key-of-the-end-to-end-tests-of-mlflow"
ROWS = 40
PROGRAMS = Path(sys.executable).parent
# MLflow's own: on SQLAlchemy 2.1, and when mlflow.sklearn is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


class Servers:
    """Both servers, and one question to both."""

    def __init__(self, ours: str, theirs: str) -> None:
        self.ours = ours
        self.theirs = theirs

    def ask(
        self, body: Any, kind: str = "application/json"
    ) -> tuple[httpx.Response, httpx.Response]:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        headers = {"Content-Type": kind, "X-API-Key": KEY}
        ours, theirs = (
            httpx.post(f"{url}/invocations", content=text, headers=headers, timeout=PATIENCE)
            for url in (self.ours, self.theirs)
        )
        return ours, theirs


def _score() -> Score:
    return Score(
        rows_digest="0" * 64,
        threshold=0.4,
        keys=("a",),
        positive=(1,),
        probability=(0.9,),
        confusion=Confusion(1, 0, 0, 0),
        metrics={"f1": 0.9},
        intervals={},
        sensitivity_lower_bound=None,
        calibration=(),
        slices=(),
    )


def _publish(releases: Any, model: Any) -> None:
    """A champion with all that MLflow is told of: its estimator and its evaluation."""
    problem = releases.problem
    draft = releases.draft("v1")
    folder = releases.store.work / "v1"
    folder.mkdir(parents=True)
    (folder / signed_bundle.MODEL).write_bytes(model.graph)
    (folder / signed_bundle.ESTIMATOR).write_bytes(dump_estimator(model.estimator))
    write_document(folder / signed_bundle.VERDICT, releases.passed_verdict("v1"))
    side = Side("v1", "logistic-0", "Logistic regression", "d", "", "", _score())
    evaluation = Evaluation(
        problem=problem.name,
        challenger=side,
        champion=None,
        champion_generation=0,
        cross_validation=_score(),
        holdout_comparisons=(),
        recipe_comparison=None,
        parity=Parity(1, 0.0, 0),
    )
    write_document(folder / signed_bundle.EVALUATION, evaluation)
    draft = msgspec.structs.replace(draft, libraries={})
    versions.publish(releases.store, draft, folder, releases.settings.signing_key)
    releases.promote("v1")
    # By the first line of its audit log MLflow knows the volume.
    audit.append(releases.store, "promotion", version="v1", generation=1, actor="pipeline")


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, releases_in: Callable[[Path], Any], fitted: Any
) -> Iterator[Servers]:
    home = tmp_path_factory.mktemp("mlflow")
    releases = releases_in(home)
    _publish(releases, fitted[0])
    import_key(releases.settings.service_keys, "tests", ["predict"], KEY)
    uri = f"sqlite:///{home}/mlflow.db"
    here = Path.cwd()
    try:
        # Without a server MLflow puts artifacts below the working directory.
        os.chdir(home)
        report = mirror(releases.problem, releases.store, uri, releases.settings.verify_key)
    finally:
        os.chdir(here)
    assert (report.mirrored, report.failed) == (1, 0), report.reason
    environment = {name: value for name, value in os.environ.items() if name[:3] != "BC_"}
    (port,) = free_ports(1)
    command = [str(PROGRAMS / "mlflow"), "models", "serve", "--env-manager", "local"]
    command += ["-m", "models:/wdbc@production", "-p", str(port)]
    with (home / "log").open("w") as log:
        theirs = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=home,
            env=environment
            | {
                "MLFLOW_TRACKING_URI": uri,
                "MLFLOW_REGISTRY_URI": uri,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            },
            start_new_session=True,
        )
        ours = subprocess.Popen(
            [sys.executable, "-m", "bc_pipeline.server", "--port", "0", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment | {"BC_HOME": str(home)},
        )
    with ours, theirs:
        try:
            assert ours.stdout is not None
            own = json.loads(ours.stdout.readline())["port"]
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(f"{url}/ping"), 600, "mlflow models serve")
            yield Servers(f"http://127.0.0.1:{own}", url)
        finally:
            ours.terminate()
            # It runs its server in a process of its own.
            os.killpg(theirs.pid, signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def rows(reference: Any) -> list[list[float]]:
    values: list[list[float]] = reference[0][:ROWS].tolist()
    return values


def test_both_give_the_same_predictions(servers: Servers, rows: Any, wdbc: Any) -> None:
    names = list(wdbc.schema.names)
    records = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    split = {"columns": names, "data": rows}
    backwards = {"columns": names[::-1], "data": [row[::-1] for row in rows]}
    wider = {"columns": [*names, "note"], "data": [[*row, "x"] for row in rows]}
    lines = [names, *rows]
    table = "".join(",".join(map(str, cells)) + "\n" for cells in lines)
    indexed = "".join(
        f"{at or ''}," + ",".join(map(str, row)) + "\n" for at, row in enumerate(lines)
    )
    bodies: list[tuple[Any, str]] = [
        ({"dataframe_split": split}, "application/json"),
        ({"dataframe_split": split | {"index": list(range(7, 7 + ROWS))}}, "application/json"),
        ({"dataframe_split": backwards}, "application/json"),
        ({"dataframe_split": wider}, "application/json"),
        ({"dataframe_split": split, "params": {"a": 1}, "other": 1}, "application/json"),
        ({"dataframe_records": records}, "application/json; charset=utf-8"),
        ({"dataframe_records": [one | {"note": None} for one in records]}, "application/json"),
        ({"inputs": records}, "application/json"),
        ({"inputs": columns}, "application/json"),
        ({"inputs": columns, "signature_name": "x"}, "application/json"),
        ({"inputs": records[0]}, "application/json"),
        ({"instances": records}, "application/json"),
        ({"instances": columns, "params": None}, "application/json"),
        ({"instances": records[0]}, "application/json"),
        (table, "text/csv"),
        (table.replace("\n", "\r\n\r\n"), "text/csv; charset=utf-8"),
        (indexed, "text/csv"),
    ]
    for body, kind in bodies:
        ours, theirs = servers.ask(body, kind)
        assert (ours.status_code, theirs.status_code) == (200, 200), (ours.text, theirs.text)
        found, expected = (np.array(one.json()["predictions"]) for one in (ours, theirs))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-12


def test_both_refuse_the_same(servers: Servers, rows: Any, wdbc: Any) -> None:
    names = list(wdbc.schema.names)
    record = dict(zip(names, rows[0], strict=True))
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    split = {"columns": names, "data": rows}
    table = "".join(",".join(map(str, cells)) + "\n" for cells in [names, *rows])
    short = {name: value for name, value in record.items() if name != "mean_radius"}
    bodies: list[tuple[Any, str]] = [
        (body, "application/json")
        for body in (
            "{",
            "5",
            [],
            {},
            {"other": rows},
            {"dataframe_split": split, "inputs": columns},
            {"dataframe_split": split | {"data": []}},
            {"dataframe_split": split | {"index": [1]}},
            {"dataframe_split": split | {"other": 1}},
            {"dataframe_split": rows},
            {
                "dataframe_split": {
                    "columns": [*names, "mean_radius"],
                    "data": [[*row, row[0]] for row in rows],
                }
            },
            {"dataframe_records": record},
            {"dataframe_records": []},
            {"dataframe_records": [short]},
            {"dataframe_records": [short, record]},
            {"dataframe_records": [record | {"mean_radius": None}]},
            {"dataframe_records": [record | {"mean_radius": "abc"}]},
            {"dataframe_records": [record | {"mean_radius": [1]}]},
            {"dataframe_records": [record | {"mean_radius": float("nan")}]},
            {"dataframe_records": [record | {"mean_radius": float("inf")}]},
            {"inputs": columns | {"mean_radius": [1.0, 2.0]}},
            {"inputs": rows[0]},
            {"instances": [short]},
        )
    ]
    bodies += [
        (text, "text/csv")
        for text in (
            "",
            b"\xff\xfe",
            table.split("\n", 1)[1],
            table.split("\n", 1)[0] + "\n",
            table + "1,2\n",
            table.replace(",", ";"),
            table.replace("mean_radius", "mean_texture", 1),
        )
    ]
    for body, kind in bodies:
        ours, theirs = servers.ask(body, kind)
        assert theirs.status_code == 400, theirs.text
        assert ours.status_code in (400, 422), (body, ours.text)
        assert ours.headers["content-type"] == "application/problem+json"
    for kind in ("text/xml", "text/csv; charset=latin-1", "application/json; format=pandas-split"):
        ours, theirs = servers.ask(table, kind)
        assert (ours.status_code, theirs.status_code) == (415, 415)


def test_what_only_one_of_them_takes(servers: Servers, rows: Any, wdbc: Any) -> None:
    """The differences that the documentation tells of."""
    names = list(wdbc.schema.names)
    record = dict(zip(names, rows[0], strict=True))
    spaced = {name.replace("_", " "): value for name, value in record.items()}
    for body in ({"inputs": rows}, {"instances": rows}, {"dataframe_records": [spaced]}):
        ours, theirs = servers.ask(body)
        assert (ours.status_code, theirs.status_code) == (200, 400)
    for value in (str(record["mean_radius"]), True, 1e6):
        ours, theirs = servers.ask({"dataframe_records": [record | {"mean_radius": value}]})
        assert (ours.status_code, theirs.status_code) == (422, 200)


def test_ping_health_and_version(servers: Servers) -> None:
    for path in ("ping", "health", "version"):
        for url in (servers.ours, servers.theirs):
            assert httpx.get(f"{url}/{path}").status_code == 200
