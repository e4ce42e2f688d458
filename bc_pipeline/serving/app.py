"""The FastAPI application of one worker, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from bc_pipeline import __version__
from bc_pipeline.access.addresses import AddressBook
from bc_pipeline.access.guard import Guard
from bc_pipeline.access.limits import Limiter
from bc_pipeline.errors import ConfigError, PipelineError
from bc_pipeline.records.spool import Spool
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.front import Front
from bc_pipeline.serving.model.folder import PinnedModel
from bc_pipeline.serving.model.live import Live, LiveModel
from bc_pipeline.serving.pages import documentation
from bc_pipeline.serving.routes import ROUTERS
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.short_way import ShortWay
from bc_pipeline.serving.telemetry.access_log import AccessLog
from bc_pipeline.serving.telemetry.exposition import observe, watch
from bc_pipeline.serving.telemetry.metrics import Metrics
from bc_pipeline.serving.telemetry.tracing import Tracing
from bc_pipeline.settings import Settings


class Application(FastAPI):
    """FastAPI with `Front` around everything, the framework's own outermost layer included.

    Attributes
    ----------
    short_way : ShortWay or None
        For the server, which may ask it first.
    """

    def __init__(self, services: Services, *, quick: bool, **options: Any) -> None:
        super().__init__(**options)
        self.state.services = services
        self.short_way = ShortWay(services) if quick else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the frameworks' own do for us, without a coroutine of each."""
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        return Front(super().build_middleware_stack(), self.state.services)


def create_app(
    settings: Settings, pinned: Live | None = None, *, worker: str = "worker", quick: bool = True
) -> Application:
    """Build the application of one worker.

    Parameters
    ----------
    pinned : Live or None
        A model to serve whatever the registry says, without a prediction log; None follows
        the registry.
    worker : str
        Name of this worker's part of the prediction log.
    quick : bool
        Whether predictions may take the `ShortWay`.

    Raises
    ------
    ConfigError
        Where the API keys are missing or unusable, or a route declares no scope.
    RecordsAway
        Where the prediction log cannot be opened.
    """
    services = Services(
        settings=settings,
        model=LiveModel(settings) if pinned is None else PinnedModel(pinned),
        guard=Guard.of(settings),
        limiter=Limiter.of(settings),
        addresses=AddressBook.of(settings),
        spool=Spool.open(settings, worker) if pinned is None else None,
        metrics=Metrics(worker),
        log=AccessLog.of(settings.log_level),
        tracing=Tracing.of(settings),
    )
    app = Application(
        services=services,
        # The short way knows nothing of pages of other origins.
        quick=quick and not settings.cors_origins,
        title=documentation.TITLE,
        version=__version__,
        description=documentation.DESCRIPTION,
        lifespan=_lifespan(services),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    require_scopes(app)
    app.add_exception_handler(PipelineError, problem_details.handle_pipeline_error)
    app.add_exception_handler(HTTPException, problem_details.handle_http_error)
    app.add_exception_handler(RequestValidationError, problem_details.handle_parameter_error)
    app.add_exception_handler(Exception, problem_details.handle_fault)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "Idempotency-Key"],
            expose_headers=[
                "X-Request-Id",
                "X-Model-Version",
                "X-Manifest-Sha256",
                "Retry-After",
                "Location",
            ],
        )
    return app


def require_scopes(app: FastAPI) -> None:
    """Refuse to start with a way in that checks nothing.

    Raises
    ------
    ConfigError
        Naming every route that declares no scope.
    """
    open_doors = sorted(
        str(getattr(route, "path", route))
        for route in app.routes
        if not isinstance(route, ScopedRoute)
    )
    if open_doors:
        raise ConfigError(f"Routes declare no scope: {', '.join(open_doors)}.")


def _lifespan(
    services: Services,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(services.model.refresh)
        tasks = [
            asyncio.create_task(services.model.watch()),
            asyncio.create_task(services.watch_access()),
            asyncio.create_task(watch(services)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            services.log.flush()
            services.limiter.close()
            services.airflow.close()
            if services.spool is not None:
                services.spool.close()
            observe(services)
            if services.tracing is not None:
                await asyncio.to_thread(services.tracing.close)

    return lifespan
