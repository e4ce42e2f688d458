"""Ask Airflow for a retrain, once for each idempotency key, and follow it.

The run's id is made from the key, so Airflow itself remembers what was asked: a request that
is repeated after a lost answer, or by two workers at once, finds the run of the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import structlog

from bc_pipeline.errors import AirflowAway, AirflowRefused, KeyReused, NotThere, StackError
from bc_pipeline.serving.airflow_calls import SECONDS, TRY_AGAIN
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.airflow_api import AirflowApi

# An answer is worth waiting for this long; then Airflow counts as away.
_TIMEOUT = 5.0
_PREFIX = "api__"
SAME_KEY = "Send the same Idempotency-Key again."
_CONFLICT, _NOT_FOUND = 409, 404


class RetrainOrder(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a retrain is asked for.

    Attributes
    ----------
    as_of : str or None
        ISO 8601: use only rows that had arrived by then; None: all that have.
    require_approval : bool
        Whether a person decides between the gate and the release.
    """

    as_of: str | None = None
    require_approval: bool = False


class TaskState(msgspec.Struct):
    """One task of a run; mapped tasks have an index of 0 and up."""

    task: str
    map_index: int
    state: str | None
    attempt: int
    started_at: str | None
    ended_at: str | None


class Retrain(msgspec.Struct):
    """A run of the retrain DAG.

    Attributes
    ----------
    state : str
        Airflow's: queued, running, success or failed. A run that the gate kept from
        promoting is a success too: see ``verdict`` of the version.
    """

    id: str
    dag: str
    state: str
    queued_at: str | None
    started_at: str | None
    ended_at: str | None
    tasks: list[TaskState]


@dataclass(frozen=True)
class Retraining:
    """The retrain DAG of one problem, seen through Airflow's API. To be called in a thread."""

    settings: Settings

    @property
    def dag(self) -> str:
        return f"{self.settings.service_problem}_retrain"

    def start(
        self, order: RetrainOrder, key: str, caller: str
    ) -> tuple[Retrain, Literal["new", "known"]]:
        """Start a run, or find the one that this key started.

        Raises
        ------
        KeyReused
            Where the key stands for another order.
        AirflowAway
            Nothing was started, or it was and the same key finds it.
        AirflowRefused
        """
        run_id = run_id_of(key, caller)
        conf = msgspec.to_builtins(order)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        with self._airflow(SAME_KEY) as api:
            try:
                api.trigger(self.dag, body)
                new = True
            except AirflowRefused as refusal:
                if refusal.status != _CONFLICT:
                    raise
                new = False
            run = api.run(self.dag, run_id)
            if not new and run.get("conf", {}) != conf:
                raise KeyReused(
                    "This Idempotency-Key was sent before with another order.",
                    "Send a new key for a new retrain.",
                )
            return self._shown(run, []), "new" if new else "known"

    def find(self, run_id: str) -> Retrain:
        """A run and its tasks.

        Raises
        ------
        NotThere
        AirflowAway, AirflowRefused
        """
        if not is_run_id(run_id):
            raise _not_there()
        with self._airflow(TRY_AGAIN) as api:
            try:
                return self._shown(api.run(self.dag, run_id), api.tasks(self.dag, run_id))
            except AirflowRefused as refusal:
                if refusal.status == _NOT_FOUND:
                    raise _not_there() from None
                raise

    @contextmanager
    def _airflow(self, remedy: str) -> Iterator[AirflowApi]:
        """Airflow's API, its errors as a caller may see them: without addresses and files."""
        from bc_pipeline.airflow_api import AirflowApi

        try:
            with AirflowApi.of(self.settings, _TIMEOUT, SECONDS) as api:
                yield api
        except AirflowRefused as refusal:
            # Its remedy is for who runs the service.
            raise AirflowRefused(refusal.message, status=refusal.status) from None
        except (StackError, AirflowAway) as error:
            structlog.get_logger().warning("airflow_away", reason=error.message)
            raise AirflowAway("Airflow does not answer.", remedy) from None
        except (KeyError, TypeError, AttributeError):
            raise AirflowRefused("Airflow's answer is not as it should be.") from None

    def _shown(self, run: dict[str, Any], tasks: list[dict[str, Any]]) -> Retrain:
        return Retrain(
            id=run["dag_run_id"],
            dag=self.dag,
            state=run["state"],
            queued_at=run.get("queued_at"),
            started_at=run.get("start_date"),
            ended_at=run.get("end_date"),
            tasks=[
                TaskState(
                    task["task_id"],
                    task["map_index"],
                    task["state"],
                    task["try_number"],
                    task["start_date"],
                    task["end_date"],
                )
                for task in sorted(tasks, key=lambda t: (t["start_date"] or "~", t["task_id"]))
            ],
        )


def run_id_of(key: str, caller: str) -> str:
    """Id of the run that a caller's idempotency key stands for."""
    text = f"{len(caller)}:{caller}{key}"
    return _PREFIX + hashlib.sha256(text.encode()).hexdigest()[:32]


def is_run_id(text: str) -> bool:
    """Whether `run_id_of` may have made it: other runs of Airflow are not shown here."""
    digits = text.removeprefix(_PREFIX)
    return digits != text and len(digits) == 32 and set(digits) <= set("0123456789abcdef")


def _not_there() -> NotThere:
    return NotThere("No retrain that was started here has this id.")
