"""The few calls of Airflow's REST API that the commands and the prediction service need."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx

from bc_pipeline.clock import poll
from bc_pipeline.errors import AirflowAway, AirflowRefused, StackError, TransientError
from bc_pipeline.settings import Settings

FINAL_RUN_STATES = ("success", "failed")
_LOGIN = "/auth/token"


@dataclass
class AirflowApi:
    """A client that is logged in as the user of the settings.

    Attributes
    ----------
    timeout : float
        Limit in seconds for each network operation of a call.
    deadline : float
        Time on the monotonic clock by which all calls must have finished.
    """

    client: httpx.Client
    timeout: float
    deadline: float = math.inf

    @classmethod
    @contextmanager
    def log_in(
        cls, settings: Settings, timeout: float = 30.0, seconds: float = math.inf
    ) -> Iterator[Self]:
        """Log in for a block.

        Parameters
        ----------
        timeout : float
            Limit in seconds for each network operation of a call.
        seconds : float
            Limit in seconds for all calls together.

        Raises
        ------
        StackError
            Where the stack was never set up.
        AirflowRefused
            Where Airflow refuses the password, or another server answers at its address.
        AirflowAway
            Where Airflow does not answer.
        """
        deadline = time.monotonic() + seconds
        try:
            password = settings.airflow_password.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise StackError(
                "Airflow's password file does not exist: the stack is not set up.",
                "Run 'make up' first, or name the password's file in BC_AIRFLOW_PASSWORD_FILE.",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(
                f"Airflow's password cannot be read ({type(error).__name__}).",
                "Check the file that BC_AIRFLOW_PASSWORD_FILE names.",
            ) from None
        try:
            client = httpx.Client(base_url=settings.airflow_address, trust_env=False)
        except httpx.InvalidURL:
            raise StackError(
                "BC_AIRFLOW_URL is not a valid URL.", "Write it as http://host:port."
            ) from None
        with client:
            api = cls(client, timeout, deadline)
            body = {"username": settings.airflow_user, "password": password}
            token = api._send("POST", _LOGIN, json=body).get("access_token")
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise AirflowRefused(
                    "The response to Airflow's login contains no token.",
                    "Check that BC_AIRFLOW_URL is Airflow's address.",
                    status=httpx.codes.OK,
                )
            client.headers["Authorization"] = f"Bearer {token}"
            yield api

    def _send(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            status, body = self._request(method, path, **arguments)
        except httpx.HTTPError as error:
            # `netloc` has no user and password, which the URL may contain.
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
            # The response to a login may repeat the password.
            detail = "" if path == _LOGIN else _detail(content)
            raise AirflowRefused(
                f"Airflow answered {status} to {method} {path}{': ' * bool(detail)}{detail}.",
                status=status,
            )
        if not isinstance(content, dict):
            raise AirflowRefused(
                f"The response to {method} {path} is not from Airflow.",
                "Check that BC_AIRFLOW_URL is Airflow's address.",
                status=status,
            )
        return content

    def _request(self, method: str, path: str, **arguments: Any) -> tuple[int, bytes]:
        """Send a request; the response must be complete before the deadline."""
        body = bytearray()
        with self.client.stream(
            method, path, timeout=self._remaining_seconds(), **arguments
        ) as response:
            for chunk in response.iter_bytes():
                body += chunk
                self._remaining_seconds()
            return response.status_code, bytes(body)

    def _remaining_seconds(self) -> float:
        seconds = min(self.timeout, self.deadline - time.monotonic())
        if seconds <= 0:
            raise httpx.TimeoutException("the deadline has passed")
        return seconds

    def _find(self, path: str, **arguments: Any) -> dict[str, Any] | None:
        """Get an object; None where Airflow has none there."""
        try:
            return self._send("GET", path, **arguments)
        except AirflowRefused as refusal:
            if refusal.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """The DAG as Airflow reports it; None until Airflow has parsed it."""
        return self._find(f"/api/v2/dags/{dag_id}")

    def import_errors(self) -> list[str]:
        errors = self._send("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].splitlines()[-1]}" for error in errors]

    def wait_for_dag(self, dag_id: str, seconds: float) -> None:
        """Wait until Airflow has parsed a DAG.

        Raises
        ------
        StackError
            With the import errors, where Airflow has not parsed it in time.
        """
        for _ in poll(seconds, 0.3):
            if self.dag(dag_id) is not None:
                return
        errors = "; ".join(self.import_errors()) or "no import error is reported"
        raise StackError(
            f"Airflow has not parsed {dag_id} within {seconds:g} s: {errors}.",
            "See logs/airflow-dag-processor.log.",
        )

    def is_paused(self, dag_id: str) -> bool:
        return bool(self._send("GET", f"/api/v2/dags/{dag_id}")["is_paused"])

    def unpause(self, dag_id: str) -> None:
        self.set_paused(dag_id, paused=False)

    def set_paused(self, dag_id: str, *, paused: bool) -> None:
        self._send("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": paused})

    def create_pool(self, name: str, slots: int, description: str) -> None:
        body = {"name": name, "slots": slots, "description": description}
        try:
            self._send("POST", "/api/v2/pools", json=body)
        except AirflowRefused as refusal:
            if refusal.status != httpx.codes.CONFLICT:
                raise

    def update_asset(self, name: str, extra: Mapping[str, Any]) -> bool:
        """Create an event of an Asset; False where Airflow has none of that name."""
        query = {"name_pattern": name, "limit": 100}
        assets = self._send("GET", "/api/v2/assets", params=query)["assets"]
        ids = [asset["id"] for asset in assets if asset["name"] == name]
        if ids:
            event = {"asset_id": ids[0], "extra": dict(extra)}
            self._send("POST", "/api/v2/assets/events", json=event)
        return bool(ids)

    def create_backfill(self, body: Mapping[str, Any]) -> None:
        self._send("POST", "/api/v2/backfills", json=dict(body))

    def trigger(self, dag_id: str, body: Mapping[str, Any]) -> str:
        """Start a run and return its id."""
        run = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=dict(body))
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")

    def runs(self, dag_id: str, **query: Any) -> list[dict[str, Any]]:
        """Runs, newest first."""
        query = {"order_by": "-run_after", "limit": 100} | query
        return list(self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self._send("GET", path, params={"limit": 100})["task_instances"])

    def task_result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return value of a task in a run; None if it has none."""
        path = (
            f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
            "/xcomEntries/return_value"
        )
        entry = self._find(path, params={"deserialize": True})
        return entry["value"] if entry is not None else None

    def follow(
        self, dag_id: str, run_id: str, seconds: float
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield the run's state and its tasks until the run ends.

        Raises
        ------
        TransientError
            Where it has not ended in time.
        """
        for _ in poll(seconds, 0.5):
            state = str(self.run(dag_id, run_id)["state"])
            yield state, self.tasks(dag_id, run_id)
            if state in FINAL_RUN_STATES:
                return
        raise TransientError(
            f"{dag_id} run {run_id} has not ended within {seconds:g} s.",
            "The run continues; see Airflow's web UI.",
        )


def _detail(content: Any) -> str:
    """The message of an error response, without the input that Airflow may repeat in it."""
    detail = content.get("detail") if isinstance(content, dict) else None
    if isinstance(detail, str):
        return detail[:300].rstrip(".")
    errors = detail if isinstance(detail, list) else []
    messages = [
        f"{'.'.join(map(str, error.get('loc', ())))} {error.get('msg', '')}"
        for error in errors
        if isinstance(error, dict)
    ]
    return "; ".join(messages)[:300]
