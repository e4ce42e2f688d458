"""Start retrain runs in Airflow, one per idempotency key, and report their state.

The run id is derived from the key, and Airflow keeps run ids unique: a request that is repeated
after a lost response, or that reaches two workers at once, finds the run of the first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog
from pydantic import ValidationError, field_validator

from bc_pipeline.clock import format_time, parse_time, time_defect
from bc_pipeline.conclusion import Conclusion, approval_run_id
from bc_pipeline.errors import (
    AirflowAway,
    AirflowRefused,
    ConfigError,
    KeyReused,
    NotThere,
    StackError,
)
from bc_pipeline.run_note import REQUESTED_BY, own_lines, read_concluded
from bc_pipeline.serving.airflow_calls import SECONDS, TRY_AGAIN
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.request_parsing.strict_json import InvalidField
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.airflow_api import AirflowApi
    from bc_pipeline.auth.callers import Caller

# Limit in seconds for each network operation.
_TIMEOUT = 5.0
_RUN_ID_PREFIX = "api__"
SAME_KEY = "Send the same Idempotency-Key again."
_CONFLICT, _NOT_FOUND = 409, 404
_FINAL_STATES = ("success", "failed")


class RetrainOrder(ApiModel):
    """Options of a retrain.

    Attributes
    ----------
    as_of : str or None
        ISO 8601: use only rows that had arrived by then; None: all rows.
    require_approval : bool
        Whether a person decides about the release; the problem's policy may require it anyway.
    train_anyway : bool
        Whether to train although there is nothing new to train on.
    """

    as_of: str | None = None
    require_approval: bool = False
    train_anyway: bool = False

    @field_validator("as_of")
    @classmethod
    def _normalise(cls, as_of: str | None) -> str | None:
        if as_of is None:
            return None
        try:
            moment = parse_time(as_of)
        except ConfigError:
            raise InvalidField("is no ISO 8601 date or time") from None
        defect = time_defect(moment)
        if defect:
            raise InvalidField(defect)
        return format_time(moment)


class TaskState(ApiModel):
    """One task of a run; the index of a mapped task is 0 or more, of others -1."""

    task: str
    map_index: int
    state: str | None
    attempt: int
    started_at: str | None
    ended_at: str | None


class ApprovalRun(ApiModel):
    """The run of the approval DAG in which a person decides about a retrain's model.

    Attributes
    ----------
    state : str
        Airflow's: queued, running (it waits for the decision), success or failed.
    conclusion : Conclusion or None
        How it ended, by name, once it has.
    reason : str or None
        Why it ended so.
    """

    id: str
    dag: str
    state: str
    started_at: str | None
    ended_at: str | None
    conclusion: Conclusion | None
    reason: str | None


class Retrain(ApiModel):
    """A run of the retrain DAG.

    Attributes
    ----------
    state : str
        Airflow's: queued, running, success or failed. A run whose model did not pass the
        gate is a success too: see `conclusion`.
    conclusion : Conclusion or None
        How it ended, by name, once it has.
    reason : str or None
        Why it ended so; of a queued run, what it waits for.
    requested_by : str or None
        Name and id of the API key, or the token's name; where another user of Airflow than the
        service's started the run, that user.
    notes : list of str
        What the run did not take of the landed files, once it has ended.
    approval : ApprovalRun or None
        Where the conclusion is `awaiting_approval`: the run that waits for the decision, and how
        that ended. Null in the answer that starts a run.
    """

    id: str
    dag: str
    state: str
    queued_at: str | None
    started_at: str | None
    ended_at: str | None
    requested_by: str | None
    conclusion: Conclusion | None
    reason: str | None
    notes: list[str]
    approval: ApprovalRun | None
    tasks: list[TaskState]


@dataclass(frozen=True)
class Retraining:
    """The retrain DAG of one problem in Airflow. Its methods block: call them in a thread."""

    settings: Settings

    @property
    def dag(self) -> str:
        return f"{self.settings.service_problem}_retrain"

    @property
    def approval_dag(self) -> str:
        return f"{self.settings.service_problem}_approval"

    def start(
        self, order: RetrainOrder, key: str, caller: Caller | None
    ) -> tuple[Retrain, Literal["new", "known"]]:
        """Start a run, or return the run that this key started.

        Raises
        ------
        KeyReused
            Where the key belongs to a request with other options.
        AirflowAway
            A run may have been started; the same key finds it.
        AirflowRefused
        """
        run_id = derive_run_id(key, caller.key_id if caller else "")
        options = order.model_dump(exclude_defaults=True)
        conf = options | ({REQUESTED_BY: caller.label} if caller else {})
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        with self._connect(SAME_KEY) as api:
            try:
                api.trigger(self.dag, body)
                new = True
            except AirflowRefused as refusal:
                if refusal.status != _CONFLICT:
                    raise
                new = False
            run = api.run(self.dag, run_id)
            sent = {k: v for k, v in (run.get("conf") or {}).items() if k != REQUESTED_BY}
            if not new and sent != options:
                raise KeyReused(
                    "This Idempotency-Key was sent before with other options.",
                    "Send a new key for a new retrain.",
                )
            return self._describe(run, []), "new" if new else "known"

    def find(self, run_id: str) -> Retrain:
        """A run, its tasks, and the approval that it requested.

        Raises
        ------
        NotThere
        AirflowAway, AirflowRefused
        """
        if not is_run_id(run_id):
            raise _unknown_run()
        with self._connect(TRY_AGAIN) as api:
            try:
                run = api.run(self.dag, run_id)
                waits_for = self._waits_for(api) if run["state"] == "queued" else None
                described = self._describe(run, api.tasks(self.dag, run_id), waits_for)
            except AirflowRefused as refusal:
                if refusal.status == _NOT_FOUND:
                    raise _unknown_run() from None
                raise
            if described.conclusion is not Conclusion.AWAITING_APPROVAL:
                return described
            return described.model_copy(update={"approval": self._approval(api, run_id)})

    def _approval(self, api: AirflowApi, run_id: str) -> ApprovalRun | None:
        """The run that waits for a person's decision; None where somebody deleted it."""
        try:
            run = api.run(self.approval_dag, approval_run_id(run_id))
        except AirflowRefused as refusal:
            if refusal.status == _NOT_FOUND:
                return None
            raise
        return ApprovalRun(**_members(run, self.approval_dag))

    @contextmanager
    def _connect(self, remedy: str) -> Iterator[AirflowApi]:
        """Log in to Airflow; errors lose what clients must not see: addresses and files."""
        from bc_pipeline.airflow_api import AirflowApi

        try:
            with AirflowApi.log_in(self.settings, _TIMEOUT, SECONDS) as api:
                yield api
        except AirflowRefused as refusal:
            # The remedy is meant for the operator of the service.
            raise AirflowRefused(refusal.message, status=refusal.status) from None
        except (StackError, AirflowAway) as error:
            structlog.get_logger().warning("airflow_unreachable", reason=error.message)
            raise AirflowAway("Airflow does not answer.", remedy) from None
        except (KeyError, TypeError, AttributeError, ValidationError):
            raise AirflowRefused("Airflow's response does not have the expected fields.") from None

    def _waits_for(self, api: AirflowApi) -> str | None:
        """Why a run of the DAG is queued; None where it is about to start."""
        if api.is_paused(self.dag):
            return f"The DAG {self.dag} is paused."
        running = api.runs(self.dag, state="running", limit=1)
        if not running:
            return None
        return f"Waits for run {running[0]['dag_run_id']}, which is running."

    def _requester(self, run: dict[str, Any]) -> str | None:
        """Who requested a run; only the service's own user is believed about somebody else."""
        user = run.get("triggering_user_name")
        if user not in (None, self.settings.airflow_user):
            return str(user)
        name = (run.get("conf") or {}).get(REQUESTED_BY)
        return name if isinstance(name, str) else None

    def _describe(
        self, run: dict[str, Any], tasks: list[dict[str, Any]], waits_for: str | None = None
    ) -> Retrain:
        members = _members(run, self.dag)
        if members["conclusion"] is None:
            members["reason"] = waits_for
        return Retrain(
            **members,
            queued_at=run.get("queued_at"),
            requested_by=self._requester(run),
            notes=own_lines(run.get("note") or ""),
            approval=None,
            tasks=[
                TaskState(
                    task=task["task_id"],
                    map_index=task["map_index"],
                    state=task["state"],
                    attempt=task["try_number"],
                    started_at=task["start_date"],
                    ended_at=task["end_date"],
                )
                for task in sorted(tasks, key=lambda t: (t["start_date"] or "~", t["task_id"]))
            ],
        )


def _members(run: dict[str, Any], dag: str) -> dict[str, Any]:
    """What is reported of every run; it has a conclusion once it has ended."""
    note = run.get("note") or ""
    concluded = read_concluded(note) if run["state"] in _FINAL_STATES else None
    return {
        "id": run["dag_run_id"],
        "dag": dag,
        "state": run["state"],
        "started_at": run.get("start_date"),
        "ended_at": run.get("end_date"),
        "conclusion": concluded.conclusion if concluded else None,
        "reason": concluded.reason if concluded else None,
    }


def derive_run_id(key: str, caller: str) -> str:
    """Run id for an idempotency key of a caller."""
    text = f"{len(caller)}:{caller}{key}"
    return _RUN_ID_PREFIX + hashlib.sha256(text.encode()).hexdigest()[:32]


def is_run_id(text: str) -> bool:
    """Whether `derive_run_id` may have produced it; other runs of Airflow are not shown."""
    return re.fullmatch(f"{_RUN_ID_PREFIX}[0-9a-f]{{32}}", text) is not None


def _unknown_run() -> NotThere:
    return NotThere("No retrain that was started here has this id.")
