"""The few calls of Airflow's REST API that the commands and the prediction service need."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from bc_pipeline.errors import AirflowAway, AirflowRefused, StackError, TransientError
from bc_pipeline.settings import Settings

FINAL_RUN_STATES = ("success", "failed")
_LOGIN = "/auth/token"


@dataclass
class AirflowApi:
    """A client that is logged in as the settings' user.

    Attributes
    ----------
    timeout : float
        Seconds that each step of a call may take.
    deadline : float
        On the monotonic clock: when everything has to be done.
    """

    client: httpx.Client
    timeout: float
    deadline: float = math.inf

    @classmethod
    def of(cls, settings: Settings, timeout: float = 30.0, seconds: float = math.inf) -> Self:
        """Log in.

        Parameters
        ----------
        timeout : float
            Seconds that each step of a call may take.
        seconds : float
            That all calls together may take.

        Raises
        ------
        StackError
            Where the stack was never set up.
        AirflowRefused
            Where Airflow refuses the password, or something else answers in its place.
        AirflowAway
            Where Airflow does not answer.
        """
        deadline = time.monotonic() + seconds
        try:
            password = settings.airflow_password.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise StackError(
                "Airflow's password is not there: the stack is not set up.",
                "Run 'make up' first, or name the password's file in BC_AIRFLOW_PASSWORD_FILE.",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(
                f"Airflow's password cannot be read ({type(error).__name__}).",
                "See to the file that BC_AIRFLOW_PASSWORD_FILE names.",
            ) from None
        try:
            client = httpx.Client(base_url=settings.airflow_address, trust_env=False)
        except httpx.InvalidURL:
            raise StackError(
                "BC_AIRFLOW_URL is no address.", "Write it as http://host:port."
            ) from None
        api = cls(client, timeout, deadline)
        try:
            body = {"username": settings.airflow_user, "password": password}
            token = api._send("POST", _LOGIN, json=body).get("access_token")
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise AirflowRefused(
                    "The answer to Airflow's login holds no token.",
                    "See that BC_AIRFLOW_URL is Airflow's address.",
                    status=httpx.codes.OK,
                )
        except BaseException:
            client.close()
            raise
        client.headers["Authorization"] = f"Bearer {token}"
        return api

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def _send(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            status, body = self._ask(method, path, **arguments)
        except httpx.HTTPError as error:
            # The address without its user and password.
            address = self.client.base_url.netloc.decode()
            raise AirflowAway(
                f"Airflow at {address} does not answer ({type(error).__name__}).",
                "Run 'bc-pipeline status' and 'bc-pipeline up'.",
            ) from None
        try:
            content = json.loads(body) if body else {}
        except ValueError:
            content = None
        if httpx.codes.is_error(status):
            # What was sent to the login may be repeated in its answer.
            detail = "" if path == _LOGIN else _detail(content)
            raise AirflowRefused(
                f"Airflow answered {status} to {method} {path}{': ' * bool(detail)}{detail}.",
                status=status,
            )
        if not isinstance(content, dict):
            raise AirflowRefused(
                f"The answer to {method} {path} is not Airflow's.",
                "See that BC_AIRFLOW_URL is Airflow's address.",
                status=status,
            )
        return content

    def _ask(self, method: str, path: str, **arguments: Any) -> tuple[int, bytes]:
        """Send a request within what is left of the time."""
        body = bytearray()
        with self.client.stream(method, path, timeout=self._left(), **arguments) as response:
            for part in response.iter_bytes():
                body += part
                self._left()
            return response.status_code, bytes(body)

    def _left(self) -> float:
        left = min(self.timeout, self.deadline - time.monotonic())
        if left <= 0:
            raise httpx.TimeoutException("no time is left")
        return left

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


def _detail(content: Any) -> str:
    """What Airflow says of an error, without the input that it may repeat."""
    detail = content.get("detail") if isinstance(content, dict) else None
    if isinstance(detail, str):
        return detail[:300].rstrip(".")
    found = (
        [entry for entry in detail if isinstance(entry, dict)] if isinstance(detail, list) else []
    )
    told = [f"{'.'.join(map(str, entry.get('loc', ())))} {entry.get('msg', '')}" for entry in found]
    return "; ".join(told)[:300]
