"""The few calls of Airflow's REST API that the commands and the prediction service need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from bc_pipeline.errors import AirflowAway, AirflowRefused, StackError, TransientError
from bc_pipeline.settings import Settings

FINAL_RUN_STATES = ("success", "failed")


@dataclass
class AirflowApi:
    """A client that is logged in as the settings' user."""

    client: httpx.Client

    @classmethod
    def of(cls, settings: Settings, timeout: float = 30.0) -> Self:
        """Log in.

        Parameters
        ----------
        timeout : float
            Seconds that each step of a call may take.

        Raises
        ------
        StackError
            Where the stack was never set up, or Airflow refuses the password.
        AirflowAway
            Where Airflow does not answer.
        """
        try:
            password = settings.airflow_password.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise StackError(
                "Airflow's password is not there: the stack is not set up.",
                "Run 'make up' first, or name the password's file in BC_AIRFLOW_PASSWORD_FILE.",
            ) from None
        client = httpx.Client(base_url=settings.airflow_address, timeout=timeout, trust_env=False)
        api = cls(client)
        body = {"username": settings.airflow_user, "password": password}
        token = api._send("POST", "/auth/token", json=body)["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        return api

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def _send(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = self.client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise AirflowAway(
                f"Airflow at {self.client.base_url} does not answer ({type(error).__name__}).",
                "Run 'bc-pipeline status' and 'bc-pipeline up'.",
            ) from None
        if response.is_error:
            raise AirflowRefused(
                f"Airflow answered {response.status_code} to {method} {path}: {_detail(response)}.",
                status=response.status_code,
            )
        return response.json() if response.content else {}

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """The DAG as Airflow knows it; None until it was parsed."""
        try:
            return self._send("GET", f"/api/v2/dags/{dag_id}")
        except AirflowRefused as refusal:
            if refusal.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def import_errors(self) -> list[str]:
        found = self._send("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{entry['filename']}: {entry['stack_trace'].splitlines()[-1]}" for entry in found]

    def wait_for_dag(self, dag_id: str, seconds: float) -> None:
        """Wait until Airflow has parsed a DAG.

        Raises
        ------
        StackError
            With the import errors, where it does not come.
        """
        deadline = time.monotonic() + seconds
        while self.dag(dag_id) is None:
            if time.monotonic() > deadline:
                errors = "; ".join(self.import_errors()) or "no import error is reported"
                raise StackError(
                    f"Airflow has not parsed {dag_id} within {seconds:g} s: {errors}.",
                    "See logs/airflow-dag-processor.log.",
                )
            time.sleep(0.3)

    def unpause(self, dag_id: str) -> None:
        self._send("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def make_pool(self, name: str, slots: int, description: str) -> None:
        body = {"name": name, "slots": slots, "description": description}
        try:
            self._send("POST", "/api/v2/pools", json=body)
        except AirflowRefused as refusal:
            if refusal.status != httpx.codes.CONFLICT:
                raise

    def trigger(self, dag_id: str, body: Mapping[str, Any]) -> str:
        """Start a run and return its id."""
        run = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=dict(body))
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")

    def runs(self, dag_id: str, **query: Any) -> list[dict[str, Any]]:
        """Runs, newest first."""
        query = {"order_by": "-run_after", "limit": 100} | query
        found = self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"]
        return list(found)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self._send("GET", path, params={"limit": 100})["task_instances"])

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned in a run; None where it returned nothing."""
        path = (
            f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
            "/xcomEntries/return_value"
        )
        try:
            return self._send("GET", path, params={"deserialize": True})["value"]
        except AirflowRefused as refusal:
            if refusal.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def follow(
        self, dag_id: str, run_id: str, seconds: float
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield the run's state and its tasks until the run ends.

        Raises
        ------
        TransientError
            Where it has not ended in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            state = str(self.run(dag_id, run_id)["state"])
            yield state, self.tasks(dag_id, run_id)
            if state in FINAL_RUN_STATES:
                return
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{dag_id} run {run_id} has not ended within {seconds:g} s.",
                    "It goes on; look at it in Airflow's web UI.",
                )
            time.sleep(0.5)


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json().get("detail", "")
    except ValueError:
        detail = response.text
    return str(detail)[:300]
