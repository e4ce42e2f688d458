"""Fast path of ``POST /predict``: from the bytes of a request to the bytes of its response.

It calls the functions of the documented route, without coroutines, routing and request
objects, and answers only requests that succeed. All others, those beyond a rate limit too, go to
the documented route, which reports their defects; for them the fast path has recorded nothing and
undone what it had counted. A request is counted before its answer is computed and recorded. A
test asserts that both ways give the same bytes.
"""

from __future__ import annotations

from bc_pipeline.auth.callers import Caller
from bc_pipeline.serving.headers import Headers, first_header
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.prediction import classify_one, count_answers, encode, log_entries
from bc_pipeline.serving.request_context import RequestContext
from bc_pipeline.serving.request_parsing.body_stream import require_json
from bc_pipeline.serving.responses import JSON_TYPE, security_headers
from bc_pipeline.serving.services import Services

PREDICT_PATHS = frozenset({"/predict", "/v1/predict"})
# Ten times the size of a usual record.
BODY_LIMIT = 16 * 1024
_OK = 200


class FastPath:
    """Answers the predictions of one worker that are certain to succeed."""

    def __init__(self, services: Services) -> None:
        self.paths = {path.encode(): path for path in PREDICT_PATHS}
        self.body_limit = BODY_LIMIT
        self._services = services
        self._common_headers = [JSON_TYPE, *security_headers(services.settings)]
        self._cross_origin = bool(services.settings.cors_origins)
        if self._cross_origin:
            self._common_headers.append((b"vary", b"Origin"))
        self._model: LoadedModel | None = None
        self._header_lines = b""

    def answer(self, path: str, headers: Headers, peer: str, body: bytes) -> bytes | None:
        """Answer a request that has arrived completely.

        Parameters
        ----------
        path : str
            One of `PREDICT_PATHS`; the method is POST and there is no query.
        headers : list of pairs of bytes
            With lower-case names, as in ASGI.
        peer : str
            Address of the connection's other end.

        Returns
        -------
        bytes or None
            Headers and body of a success, without the status line; None where the
            documented route has to answer.

        Raises
        ------
        Exception
            Where something failed after the answer was recorded.
        """
        if self._cross_origin and first_header(headers, b"origin") is not None:
            # The documented route adds CORS headers.
            return None
        services = self._services
        model = services.model_watcher.current
        caller = services.authenticator.caller_of_key(headers)
        client = services.addresses.client(peer, headers)
        if model is None or caller is None or not self._is_allowed(caller, client):
            return None
        context = RequestContext(client)
        context.route, context.caller, context.model = path, caller, model.version
        limiter, charged = services.rate_limiter, False
        try:
            require_json(headers)
            sample = model.parser.fast.parse(body)
            if sample is None:
                return None
            limiter.charge(client, caller.key_id)
            charged = True
            answer, entry = classify_one(model, sample, context, "predict")
            content = encode(answer)
            log_entries(services, (entry,))
        except Exception:
            # The documented route fails in the same way and reports it.
            if charged:
                limiter.give_back(client, caller.key_id)
            return None
        # The answer is recorded: an error from here on must not lead to a second record.
        count_answers(services, model, (answer,), (entry,))
        services.metrics.in_flight += 1
        context.status = _OK
        services.finish_request(context, "POST", headers)
        return b"%scontent-length: %d\r\nx-request-id: %s\r\n\r\n%s" % (
            self._headers_of(model),
            len(content),
            context.id.encode(),
            content,
        )

    def _is_allowed(self, caller: Caller, client: str) -> bool:
        return "predict" in caller.scopes and self._services.addresses.allowed(client)

    def _headers_of(self, model: LoadedModel) -> bytes:
        """Headers that all responses of a model share, joined once for each model."""
        if model is not self._model:
            pairs = (*model.headers, *self._common_headers)
            self._header_lines = b"".join(b"%s: %s\r\n" % pair for pair in pairs)
            self._model = model
        return self._header_lines
