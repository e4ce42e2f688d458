"""What all requests of a worker share, made once at its start."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bc_pipeline.access.addresses import AddressBook
from bc_pipeline.access.guard import Guard
from bc_pipeline.access.limits import Limiter
from bc_pipeline.errors import NoChampion, RecordsAway
from bc_pipeline.records.spool import Spool
from bc_pipeline.serving.airflow_calls import AirflowCalls
from bc_pipeline.serving.exchange import Exchange
from bc_pipeline.serving.model.folder import PinnedModel
from bc_pipeline.serving.model.live import Live, LiveModel
from bc_pipeline.serving.telemetry.access_log import AccessLog
from bc_pipeline.serving.telemetry.metrics import Metrics
from bc_pipeline.serving.telemetry.tracing import Tracing
from bc_pipeline.serving.turns import Turns
from bc_pipeline.settings import Settings

_READ_AT_ONCE = 2


@dataclass(frozen=True)
class Services:
    """The parts of one worker.

    Attributes
    ----------
    spool : Spool or None
        The prediction log; None only where a folder is served, for its smoke test.
    tracing : Tracing or None
        None where no collector is set.
    reading : asyncio.Semaphore
        Held while a batch or upload is read: each may take tens of megabytes.
    """

    settings: Settings
    model: LiveModel | PinnedModel
    guard: Guard
    limiter: Limiter
    addresses: AddressBook
    spool: Spool | None
    metrics: Metrics
    log: AccessLog
    tracing: Tracing | None
    airflow: AirflowCalls = field(default_factory=AirflowCalls)
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READ_AT_ONCE))

    @property
    def live(self) -> Live:
        """The one model that a request answers from: take it once.

        Raises
        ------
        NoChampion
        """
        live = self.model.current
        if live is None:
            raise NoChampion(
                "No verified model is live.", "The service takes one once it is promoted."
            )
        return live

    def require_log(self) -> None:
        """Refuse at once what could not be recorded.

        Raises
        ------
        RecordsAway
        """
        if self.spool is not None and not self.spool.state().writable:
            raise RecordsAway("The prediction log cannot be written.", "Try again.")

    def finish(self, exchange: Exchange, method: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Count and log a request that has its answer.

        Parameters
        ----------
        method : str
            From a fixed set: it becomes a label.
        """
        seconds = exchange.seconds
        self.metrics.answered(exchange.route, method, exchange.status, seconds)
        self.log.write(exchange, method, seconds)
        if self.tracing is not None:
            self.tracing.record(exchange, headers, method, seconds)

    async def watch_access(self) -> None:
        """Follow the key store and the issuer: a revoked key is refused without a restart."""
        keys, tokens = Turns("keys"), Turns("tokens")
        while True:
            await asyncio.sleep(self.settings.reload_seconds)
            with keys.turn():
                await asyncio.to_thread(self.guard.refresh)
            with tokens.turn():
                await self.guard.refresh_tokens()
