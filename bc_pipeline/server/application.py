"""Interface between the server and the application that it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from bc_pipeline.settings import Settings

Headers = list[tuple[bytes, bytes]]
# Headers and body of an error response, from its status and detail and the request's headers.
ErrorRenderer = Callable[[HTTPStatus, str, Headers], tuple[Headers, bytes]]


class FastPath(Protocol):
    """Answers requests that need neither routing nor a task.

    Attributes
    ----------
    paths : mapping of bytes to str
        Request targets that it may answer by POST, as received and as text.
    body_limit : int
        Bytes that the body of such a request may hold.
    """

    @property
    def paths(self) -> Mapping[bytes, str]: ...

    @property
    def body_limit(self) -> int: ...

    def answer(self, path: str, headers: Headers, peer: str, body: bytes) -> bytes | None:
        """Answer a complete request.

        Parameters
        ----------
        headers : list of pairs of bytes
            As in ASGI: lower-case names.
        peer : str
            Address of the other end of the connection.

        Returns
        -------
        bytes or None
            Headers and body of a response with status 200; None: the application must answer.
        """


class Application(Protocol):
    """An ASGI application with a fast path and error responses of its own."""

    @property
    def fast_path(self) -> FastPath | None: ...

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]: ...

    def protocol_error(
        self, status: HTTPStatus, detail: str, request: Headers
    ) -> tuple[Headers, bytes]:
        """Render the error response to a request that the HTTP protocol rejects.

        Parameters
        ----------
        request : list of pairs of bytes
            Headers of the request that were read before it was rejected.
        """


class ApplicationFactory(Protocol):
    """Builds the application of one process."""

    def __call__(
        self, settings: Settings, *, worker: str, folder: Path | None = None
    ) -> Application:
        """Build it.

        Parameters
        ----------
        worker : str
            Name of the process, unique among the workers.
        folder : Path or None
            A version to serve; None follows the registry.

        Raises
        ------
        PipelineError
            Where settings or files prevent the application from starting.
        """


def load_factory(name: str) -> ApplicationFactory:
    """Import a factory that is named as for uvicorn: ``package.module:function``."""
    from uvicorn.importer import import_from_string

    factory: ApplicationFactory = import_from_string(name)
    return factory
