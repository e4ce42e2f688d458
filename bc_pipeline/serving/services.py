"""The objects that all requests of a worker share, made once at its start."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from bc_pipeline.auth.addresses import AddressRules
from bc_pipeline.auth.authenticator import Authenticator
from bc_pipeline.auth.rate_limits import RateLimiter
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.serving.airflow_calls import AirflowCalls
from bc_pipeline.serving.headers import Headers
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.serving.request_context import RequestContext, context_of
from bc_pipeline.serving.telemetry.access_log import AccessLog
from bc_pipeline.serving.telemetry.exposition import Exposition
from bc_pipeline.serving.telemetry.metrics import Metrics
from bc_pipeline.serving.telemetry.readiness import (
    Readiness,
    check_readiness,
    no_model,
    unwritable_log,
)
from bc_pipeline.serving.telemetry.tracing import Tracing
from bc_pipeline.settings import Settings

_UPLOADS_AT_ONCE = 2


@dataclass(frozen=True)
class Services:
    """The parts of one worker.

    Attributes
    ----------
    spool : Spool or None
        The prediction log; None only where a folder is served, for its smoke test.
    tracing : Tracing or None
        None where no collector is set.
    upload_slots : asyncio.Semaphore
        Held while a batch or upload is read: each may take tens of megabytes.
    """

    settings: Settings
    model_watcher: ModelWatcher
    authenticator: Authenticator
    rate_limiter: RateLimiter
    addresses: AddressRules
    spool: Spool | None
    metrics: Metrics
    access_log: AccessLog
    tracing: Tracing | None
    airflow: AirflowCalls = field(default_factory=AirflowCalls)
    upload_slots: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_UPLOADS_AT_ONCE)
    )

    @property
    def loaded_model(self) -> LoadedModel:
        """The model that answers; a request reads it once, so that it uses one model only.

        Raises
        ------
        NoChampion
        """
        model = self.model_watcher.current
        if model is None:
            raise no_model()
        return model

    @property
    def exposition(self) -> Exposition:
        return Exposition(self.settings, self.metrics, self.model_watcher, self.spool)

    def require_writable_log(self) -> None:
        """Refuse predictions that could not be recorded.

        Raises
        ------
        RecordsAway
        """
        if self.spool is not None and not self.spool.state().writable:
            raise unwritable_log()

    def readiness(self) -> Readiness:
        """Check every part that predictions need; reads one small file."""
        return check_readiness(self.model_watcher.current, self.spool, self.settings.records)

    def finish_request(self, context: RequestContext, method: str, headers: Headers) -> None:
        """Count, log and trace a request that was answered.

        Parameters
        ----------
        method : str
            One of a fixed set, because it becomes a label.
        """
        seconds = context.seconds
        self.metrics.count_request(context.route, method, context.status, seconds)
        self.access_log.write(context, method, seconds)
        if self.tracing is not None:
            self.tracing.record(context, headers, method, seconds)


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def require_ready(request: Request) -> None:
    """Require a model and a log that can be written; the model becomes that of the request.

    Raises
    ------
    NoChampion, RecordsAway
    """
    services = services_of(request)
    services.require_writable_log()
    context_of(request).model = services.loaded_model.version
