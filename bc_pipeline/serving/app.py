"""Builds the FastAPI application of one worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from bc_pipeline import __version__
from bc_pipeline.artifacts.store_format import require_store
from bc_pipeline.auth.addresses import AddressRules
from bc_pipeline.auth.authenticator import Authenticator
from bc_pipeline.auth.rate_limits import RateLimiter
from bc_pipeline.background_loop import BackgroundLoop
from bc_pipeline.errors import ConfigError, PipelineError
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.serving import error_responses
from bc_pipeline.serving.cross_origin import CrossOrigin
from bc_pipeline.serving.direct_routes import DirectRoutes
from bc_pipeline.serving.fast_path import FastPath
from bc_pipeline.serving.headers import Headers
from bc_pipeline.serving.middleware import ServiceMiddleware
from bc_pipeline.serving.model.loaded_model import LoadedModel, load_folder
from bc_pipeline.serving.model.model_watcher import ModelWatcher
from bc_pipeline.serving.pages import documentation
from bc_pipeline.serving.routes import ROUTERS
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.telemetry.access_log import AccessLog
from bc_pipeline.serving.telemetry.exposition import PUBLISH_SECONDS
from bc_pipeline.serving.telemetry.metrics import Metrics
from bc_pipeline.serving.telemetry.tracing import Tracing
from bc_pipeline.settings import Settings


class Application(FastAPI):
    """FastAPI with `ServiceMiddleware` around the framework's own middleware.

    Attributes
    ----------
    fast_path : FastPath or None
        For the server, which tries it before the routes.
    """

    def __init__(self, services: Services, *, use_fast_path: bool, **options: Any) -> None:
        super().__init__(**options)
        self.state.services = services
        self.fast_path = FastPath(services) if use_fast_path else None
        settings = services.settings
        self._cross_origin = CrossOrigin(settings) if settings.cors_origins else None

    def build_middleware_stack(self) -> ASGIApp:
        services: Services = self.state.services
        direct = DirectRoutes(self.routes, {"name": services.settings.service_problem})
        framework = super().build_middleware_stack()
        return ServiceMiddleware(framework, services, direct, self._cross_origin)

    def protocol_error(
        self, status: HTTPStatus, detail: str, request: Headers
    ) -> tuple[Headers, bytes]:
        """Render the response to a request that the HTTP protocol rejects."""
        settings = self.state.services.settings
        response = error_responses.complete(
            error_responses.protocol_error(status, detail), "", settings
        )
        headers = self._cross_origin.headers_for(request) if self._cross_origin else []
        return [*response.raw_headers, *headers], bytes(response.body)


def create_worker_app(
    settings: Settings, *, worker: str, folder: Path | None = None
) -> Application:
    """Build the application of a worker; the server imports this function by its name.

    Parameters
    ----------
    folder : Path or None
        A signed version to serve whatever the registry says; None follows the registry.

    Raises
    ------
    PipelineError
        Where the volume, the folder or the settings do not allow the service to start.
    """
    if folder is not None:
        return create_app(settings, load_folder(folder, settings), worker=worker)
    require_store(settings.home)
    return create_app(settings, worker=worker)


def create_app(
    settings: Settings,
    pinned: LoadedModel | None = None,
    *,
    worker: str = "worker",
    use_fast_path: bool = True,
) -> Application:
    """Build the application of one worker.

    Parameters
    ----------
    pinned : LoadedModel or None
        A model to serve whatever the registry says, without a prediction log; None follows
        the registry.
    worker : str
        Name of this worker's part of the prediction log.
    use_fast_path : bool
        Whether predictions may use the `FastPath`.

    Raises
    ------
    ConfigError
        Where the API keys are missing or unusable, or a route declares no scope.
    RecordsAway
        Where the prediction log cannot be opened.
    """
    services = _make_services(settings, pinned, worker)
    app = Application(
        services=services,
        use_fast_path=use_fast_path,
        title=documentation.TITLE,
        version=__version__,
        description=documentation.description(None),
        lifespan=_lifespan(services),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            PipelineError: error_responses.handle_pipeline_error,
            HTTPException: error_responses.handle_http_error,
            RequestValidationError: error_responses.handle_parameter_error,
            Exception: error_responses.handle_internal_error,
        },
    )
    for router in ROUTERS:
        # Not include_router(), which builds every route once more.
        app.router.routes.extend(router.routes)
    require_scopes(app)
    return app


def _make_services(settings: Settings, pinned: LoadedModel | None, worker: str) -> Services:
    return Services(
        settings=settings,
        model_watcher=ModelWatcher(settings, pinned),
        authenticator=Authenticator.from_settings(settings),
        rate_limiter=RateLimiter.from_settings(settings),
        addresses=AddressRules.from_settings(settings),
        spool=Spool.open(settings, worker) if pinned is None else None,
        metrics=Metrics(worker),
        access_log=AccessLog(settings.log_level),
        tracing=Tracing.from_settings(settings),
    )


def require_scopes(app: FastAPI) -> None:
    """Refuse to start with a route that checks no credentials.

    Raises
    ------
    ConfigError
        Naming every route that declares no scope.
    """
    unscoped = sorted(
        str(getattr(route, "path", route))
        for route in app.routes
        if not isinstance(route, ScopedRoute)
    )
    if unscoped:
        raise ConfigError(f"Routes declare no scope: {', '.join(unscoped)}.")


def _lifespan(
    services: Services,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(services.model_watcher.refresh)
        metrics_loop = BackgroundLoop("metrics")
        with metrics_loop.iteration():
            services.exposition.publish()
        watcher, authenticator = services.model_watcher, services.authenticator
        seconds = services.settings.reload_seconds
        tasks = [
            asyncio.create_task(loop.run(interval, action))
            for loop, interval, action in (
                (BackgroundLoop("model"), seconds, lambda: asyncio.to_thread(watcher.refresh)),
                # A revoked key is soon refused.
                (BackgroundLoop("keys"), seconds, lambda: asyncio.to_thread(authenticator.refresh)),
                (BackgroundLoop("tokens"), seconds, lambda: authenticator.refresh_tokens()),
                (metrics_loop, PUBLISH_SECONDS, services.exposition.publish),
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            services.access_log.flush()
            services.rate_limiter.close()
            services.airflow.close()
            if services.spool is not None:
                services.spool.close()
            services.exposition.publish()
            if services.tracing is not None:
                await asyncio.to_thread(services.tracing.close)

    return lifespan
