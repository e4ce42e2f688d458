"""Routes that are called without the framework's routing, which takes longer than a prediction.

FastAPI compares a request with every route, then solves the dependencies of its endpoint inside
context managers. The endpoints of predictions take the request alone, or the model's name beside
it, so they are looked up by method and path. All else of `ScopedRoute` applies to them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Set
from typing import NamedTuple

from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from bc_pipeline.serving.scoped_route import ScopedRoute

_PREDICTIONS = "predict"


class _Direct(NamedTuple):
    route: ScopedRoute
    parameters: dict[str, str]


class DirectRoutes:
    """Calls the routes whose callers need the scope ``predict``.

    Parameters
    ----------
    parameters : dict of str to str
        Values of the parameters of paths. A path with any other parameter is left to the
        framework, and so is an endpoint that takes more than the request and these.
    """

    def __init__(self, routes: Iterable[BaseRoute], parameters: dict[str, str]) -> None:
        self._routes: dict[tuple[str, str], _Direct] = {}
        for route in routes:
            if isinstance(route, ScopedRoute) and route.required == _PREDICTIONS:
                names = route.param_convertors.keys()
                if names <= parameters.keys() and _takes(route, {"request", *names}):
                    own = {name: parameters[name] for name in names}
                    for method in route.methods:
                        self._routes[method, route.path.format(**own)] = _Direct(route, own)

    @property
    def addresses(self) -> Set[tuple[str, str]]:
        """Methods and paths of the routes."""
        return self._routes.keys()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request, where its route is one of these; errors are raised.

        Returns
        -------
        bool
            False where the framework has to answer.
        """
        direct = self._routes.get((scope["method"], scope["path"]))
        if direct is None:
            return False
        scope["route"], scope["path_params"] = direct
        response = await direct.route.answer(Request(scope, receive, send), **direct.parameters)
        await response(scope, receive, send)
        return True


def _takes(route: ScopedRoute, names: set[str]) -> bool:
    """Whether the endpoint is a coroutine function with exactly these parameters."""
    parameters = inspect.signature(route.endpoint).parameters
    return inspect.iscoroutinefunction(route.endpoint) and parameters.keys() == names
