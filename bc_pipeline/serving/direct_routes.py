"""Routes that are called without the framework's routing, which takes longer than a prediction.

FastAPI compares a request with every route, then solves the dependencies of its endpoint inside
context managers. The endpoints of predictions take the request alone, or the model's name beside
it, so they are looked up by method and path. All else of `ScopedRoute` applies to them.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        Values of the parameters of paths; a path with any other parameter is left to the
        framework.
    """

    def __init__(self, routes: Iterable[BaseRoute], parameters: dict[str, str]) -> None:
        self._routes: dict[tuple[str, str], _Direct] = {}
        for route in routes:
            if isinstance(route, ScopedRoute) and route.required == _PREDICTIONS:
                names = route.param_convertors.keys()
                if names <= parameters.keys():
                    own = {name: parameters[name] for name in names}
                    for method in route.methods:
                        self._routes[method, route.path.format(**own)] = _Direct(route, own)

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
