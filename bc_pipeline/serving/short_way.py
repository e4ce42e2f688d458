"""The short way of ``POST /predict``: from the bytes of a request to those of its answer.

It is made of the functions of the documented route, without coroutines, routing and request
objects, and takes only requests that surely succeed. Any other takes the documented route,
which explains what is wrong; nothing has been counted or recorded for it then. A test holds
both to the same bytes.
"""

from __future__ import annotations

from bc_pipeline.access.caller import Caller
from bc_pipeline.serving.answers import JSON_TYPE, security_headers
from bc_pipeline.serving.bodies.reading import Headers, require_json
from bc_pipeline.serving.exchange import Exchange
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.predict import encode, predict_one
from bc_pipeline.serving.services import Services

PREDICT_PATHS = frozenset({"/predict", "/v1/predict"})
# A record is a tenth of it; what is larger is better read by others.
BODY_LIMIT = 16 * 1024
_OK = 200


class ShortWay:
    """Answers sound predictions of one worker."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._shared = (JSON_TYPE, *security_headers(services.settings))
        self._live: Live | None = None
        self._lines = b""

    def answer(self, path: str, headers: Headers, peer: str, body: bytes) -> bytes | None:
        """Answer a request whose bytes are all there.

        Parameters
        ----------
        path : str
            One of `PREDICT_PATHS`, asked by POST and without a query.
        headers : list of pairs of bytes
            As ASGI gives them: lower-case names.
        peer : str
            Address at the other end of the connection.

        Returns
        -------
        bytes or None
            Headers and body of a success, the status line left out. None: the documented
            route must answer.
        """
        services = self._services
        live = services.model.current
        caller = services.guard.holder(headers)
        client = services.addresses.client(peer, headers)
        if live is None or caller is None or not self._may(caller, client):
            return None
        exchange = Exchange(client)
        exchange.route, exchange.caller, exchange.model = path, caller, live.version
        try:
            require_json(headers)
            sample = live.reader.read_quickly(body)
            if sample is None:
                return None
            answered = encode(predict_one(services, exchange, live, sample, "predict"))
        except Exception:
            # The documented route meets the same, and tells of it.
            return None
        services.limiter.spend_address(client)
        services.limiter.spend_key(caller.key_id)
        services.metrics.in_flight += 1
        exchange.status = _OK
        services.finish(exchange, "POST", headers)
        return b"%scontent-length: %d\r\nx-request-id: %s\r\n\r\n%s" % (
            self._lines_of(live),
            len(answered),
            exchange.id.encode(),
            answered,
        )

    def _may(self, caller: Caller, client: str) -> bool:
        services = self._services
        return (
            "predict" in caller.scopes
            and services.addresses.allowed(client)
            and services.limiter.has_room(client, caller.key_id)
        )

    def _lines_of(self, live: Live) -> bytes:
        """Headers that all answers of a model share, joined once for each model."""
        if live is not self._live:
            pairs = (*live.headers, *self._shared)
            self._live, self._lines = live, b"".join(b"%s: %s\r\n" % pair for pair in pairs)
        return self._lines
