"""Every route with every kind of credentials: access follows from the declared scope alone.

The routes come from the application, so a new one is tested too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette

from bc_pipeline import clock
from bc_pipeline.auth.api_keys import create_key, revoke_key, rotate_key
from bc_pipeline.auth.callers import SCOPES, Scope
from bc_pipeline.errors import ConfigError
from bc_pipeline.serving import app as serving_app
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.routes import ROUTERS
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.settings import Settings
from tests.unit.auth.conftest import Issuer
from tests.unit.serving.conftest import Service

NOBODY = "01900000-0000-7000-8000-000000000000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PARAMETERS = {
    "prediction_id": NOBODY,
    "run_id": f"api__{'0' * 32}",
    "name": "wdbc",
    "version": "v1",
}
# Every public route is listed here: a test fails for one that is not.
PUBLIC = {
    "/",
    "/docs",
    "/docs/assets/{name}",
    "/health",
    "/livez",
    "/openapi.json",
    "/ping",
    "/problems",
    "/readyz",
    "/redoc",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{name}/ready",
    "/v2/models/{name}/versions/{version}/ready",
    "/version",
}
ROUTES: list[ScopedRoute] = [
    route for router in ROUTERS for route in router.routes if isinstance(route, ScopedRoute)
]
Headers = list[tuple[str, str]]


class Sent(NamedTuple):
    """Credentials of a request.

    Attributes
    ----------
    granted : frozenset of str or None
        Scopes of the caller; None where the credentials are not valid.
    """

    name: str
    headers: Headers
    granted: frozenset[str] | None
    query: str = ""

    def expected(self, required: str) -> str:
        if required == "public":
            return "in"
        if self.granted is None:
            return "401"
        return "in" if required in self.granted or "admin" in self.granted else "403"


def outcome(status: int) -> str:
    return str(status) if status in (401, 403) else "in"


def address(route: ScopedRoute) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: PARAMETERS[found[1]], route.path)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Settings:
    home = tmp_path_factory.mktemp("access")
    password = home / "airflow_password"
    password.write_text("x")
    return issuer.settings(
        Settings(home=home),
        # Nothing listens on this port.
        airflow_port=1,
        airflow_password_file=password,
        rate_limit_failures="1000000/hour",
    )


@pytest.fixture(scope="module")
def credentials(settings: Settings, issuer: Issuer) -> list[Sent]:
    """Every kind of credentials that a request may have."""
    store = settings.service_keys
    keys: dict[Scope, str] = {}
    for scope in SCOPES:
        keys[scope], _ = create_key(store, f"only-{scope}", [scope])
    everything = frozenset(SCOPES)
    admin = keys["admin"]
    revoked, entry = create_key(store, "revoked", ["admin"])
    revoke_key(store, entry.id)
    old, entry = create_key(store, "rotated", ["admin"])
    new, _ = rotate_key(store, entry.id, timedelta(hours=1))
    # Without an overlap the rotated key expires immediately.
    expired, entry = create_key(store, "expired", ["admin"], clock.now() + timedelta(days=1))
    rotate_key(store, entry.id, timedelta(0))
    good = issuer.token(scope="admin").decode()

    def key(name: str, raw: str, granted: frozenset[str] | None) -> Sent:
        return Sent(name, [("X-API-Key", raw)], granted)

    def bearer(name: str, raw: str | bytes, granted: frozenset[str] | None) -> Sent:
        text = raw if isinstance(raw, str) else raw.decode()
        return Sent(name, [("Authorization", f"Bearer {text}")], granted)

    def token(name: str, granted: frozenset[str] | None = None, **changes: Any) -> Sent:
        return bearer(f"token: {name}", issuer.token(**({"scope": "admin"} | changes)), granted)

    head, body, signature = good.split(".")
    return [
        Sent("none", [], None),
        *[key(f"key: {scope}", raw, frozenset({scope})) for scope, raw in keys.items()],
        bearer("key as bearer", admin, everything),
        key("rotated key within the overlap", old, everything),
        key("the key that replaces it", new, everything),
        key("empty key", "", None),
        key("unknown key", f"bck_{'0' * 8}_{'a' * 43}", None),
        key("key with one letter more", f"{admin}a", None),
        key("digest of a key", entry.sha256, None),
        key("revoked key", revoked, None),
        key("expired key", expired, None),
        Sent("key in the query", [], None, f"api_key={admin}"),
        Sent("key in the query and header", [("X-API-Key", admin)], None, f"api_key={admin}"),
        Sent("token in the query", [], None, f"access_token={good}"),
        Sent("key in a cookie", [("Cookie", f"api_key={admin}; X-API-Key={admin}")], None),
        Sent("key twice", [("X-API-Key", admin), ("X-API-Key", admin)], None),
        Sent("key after another", [("X-API-Key", "x" * 20), ("X-API-Key", admin)], None),
        Sent(
            "key and token", [("X-API-Key", admin), ("Authorization", f"Bearer {good}")], None
        ),
        Sent("bearer twice", [("Authorization", f"Bearer {good}")] * 2, None),
        Sent("basic", [("Authorization", "Basic YWRtaW46YWRtaW4=")], None),
        Sent("key as basic", [("Authorization", f"Basic {admin}")], None),
        Sent("token as key", [("X-API-Key", good)], None),
        *[token(f"scope {scope}", frozenset({scope}), scope=scope) for scope in SCOPES],
        token("list of scopes", frozenset({"read", "predict"}), scope=["read", "predict"]),
        token("no scope", frozenset(), scope=None),
        token("unknown scopes", frozenset(), scope="root superuser *"),
        token("other curve", everything, key=issuer.private.ec, kid="ec-1", algorithm="ES256"),
        token("wrong audience", aud="another-service"),
        token("no audience", aud=None),
        token("wrong issuer", iss="https://another.example"),
        token("expired", exp=1_700_000_000),
        token("no expiry", exp=None),
        token("not yet valid", nbf=4_000_000_000),
        token("no subject", sub=None),
        token("foreign key", key=issuer.private.foreign),
        token("unknown key id", kid="rsa-9"),
        token("no key id", kid=None),
        bearer("token: alg none", none_token(issuer), None),
        bearer("token: HS256 with the public key", symmetric_token(issuer), None),
        bearer("token: without signature", f"{head}.{body}.", None),
        bearer("token: another's body", f"{head}.{none_token(issuer).split('.')[1]}.{signature}",
               None),
        bearer("token: half", f"{head}.{body}", None),
    ]  # fmt: skip


def none_token(issuer: Issuer) -> str:
    claims = issuer.claims(scope="admin", sub="somebody-else")
    return jwt.encode(claims, None, algorithm="none", headers={"kid": "rsa-1"})


def symmetric_token(issuer: Issuer) -> str:
    """A token signed with HMAC, with the issuer's public key as its secret."""

    def part(content: Any) -> bytes:
        text = json.dumps(content).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=")

    signed = b".".join(
        (
            part({"alg": "HS256", "typ": "JWT", "kid": "rsa-1"}),
            part(issuer.claims(scope="admin")),
        )
    )
    digest = hmac.new(issuer.private.public_pem, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


@pytest.fixture(scope="module", params=[True, False], ids=["fast path", "documented route"])
def service(
    request: pytest.FixtureRequest,
    settings: Settings,
    credentials: list[Sent],
    releases_in: Any,
    fitted: Any,
) -> Iterator[Service]:
    if not (settings.home / "models").exists():
        releases = releases_in(settings.home)
        releases.publish("v1", fitted[0])
        releases.promote("v1")
    service = Service(create_app(settings, use_fast_path=request.param))
    yield service
    service.stop()


def test_every_route_is_tested(service: Service) -> None:
    assert [getattr(route, "path", route) for route in service.app.routes] == [
        route.path for route in ROUTES
    ]
    assert {route.required for route in ROUTES} == {*SCOPES, "public"} - {"admin"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_access_follows_from_the_scope(
    service: Service, credentials: list[Sent], route: ScopedRoute
) -> None:
    wrong = []
    for method in sorted(route.methods):
        for sent in credentials:
            path = address(route) + (f"?{sent.query}" if sent.query else "")
            response = service.request(
                method,
                path,
                headers=[*sent.headers, ("Content-Type", "application/json")],
                content=b"{}" if method == "POST" else None,
            )
            if outcome(response.status_code) != sent.expected(route.required):
                wrong.append((method, sent.name, response.status_code))
            if response.status_code == 401:
                assert response.headers["www-authenticate"].startswith("Bearer ")
            if response.status_code in (401, 403) and method != "HEAD":
                assert response.headers["content-type"] == "application/problem+json"
    assert wrong == []


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_undeclared_methods_are_refused(
    service: Service, credentials: list[Sent], path: str
) -> None:
    routes = [route for route in ROUTES if route.path == path]
    declared = set().union(*(route.methods for route in routes))
    admin = next(sent for sent in credentials if sent.name == "key: admin")
    for method in sorted(set(METHODS) - declared):
        response = service.request(method, address(routes[0]), headers=admin.headers)
        assert response.status_code == (204 if method == "OPTIONS" else 405)
        assert set(response.headers["allow"].split(", ")) == declared | {"OPTIONS"}


def test_only_the_listed_routes_are_public() -> None:
    assert {route.path for route in ROUTES if route.required == "public"} == PUBLIC


async def _endpoint() -> dict[str, str]:
    return {"status": "ok"}


def _http() -> APIRouter:
    router = APIRouter()
    router.add_api_route("/without-scope", _endpoint)
    return router


def _websocket() -> APIRouter:
    router = APIRouter()
    router.add_api_websocket_route("/without-scope", _endpoint)
    return router


@pytest.mark.parametrize("make", [_http, _websocket])
def test_a_route_without_a_scope_prevents_the_start(
    make: Any, tmp_path: Path, settings: Settings, credentials: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(serving_app, "ROUTERS", (*ROUTERS, make()))
    with pytest.raises(ConfigError, match="/without-scope"):
        create_app(settings.model_copy(update={"records_dir": tmp_path}))


def test_a_mounted_application_is_refused() -> None:
    app = FastAPI(openapi_url=None)
    app.mount("/without-scope", Starlette())
    with pytest.raises(ConfigError, match="/without-scope"):
        serving_app.require_scopes(app)


@pytest.mark.parametrize("extra", [None, {}, {"x-required-scope": "everybody"}])
def test_a_scoped_route_needs_a_known_scope(extra: Any) -> None:
    router = APIRouter(route_class=ScopedRoute)
    with pytest.raises(ConfigError, match="/without-scope"):
        router.add_api_route("/without-scope", _endpoint, openapi_extra=extra)
