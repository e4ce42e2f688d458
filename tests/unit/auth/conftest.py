"""A key store, what is logged, and a token issuer with real keys on a real HTTP server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.typing import EventDict

from bc_pipeline.settings import Settings
from tests.redis_server import redis_server as redis_server

ISSUER = "https://issuer.example"
AUDIENCE = "bc-service"


@dataclass(frozen=True)
class PrivateKeys:
    """What the issuer signs with, and a key that it does not have."""

    rsa: rsa.RSAPrivateKey
    ec: ec.EllipticCurvePrivateKey
    ed: ed25519.Ed25519PrivateKey
    foreign: rsa.RSAPrivateKey

    @classmethod
    def generate(cls) -> PrivateKeys:
        return cls(
            rsa.generate_private_key(public_exponent=65537, key_size=2048),
            ec.generate_private_key(ec.SECP256R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(public_exponent=65537, key_size=2048),
        )

    @property
    def public_pem(self) -> bytes:
        return self.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, kid: str, **extra: Any) -> dict[str, Any]:
    kinds: Any = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    kind = next(algorithm for base, algorithm in kinds.items() if isinstance(key, base))
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, **extra}


class Issuer:
    """Serves `document` as its key set on loopback, and counts who asks."""

    def __init__(self, private: PrivateKeys) -> None:
        self.private = private
        self.document: Any = {
            "keys": [
                jwk(private.rsa, "rsa-1", alg="RS256", use="sig"),
                jwk(private.ec, "ec-1"),
                jwk(private.ed, "ed-1"),
            ]
        }
        self.raw: bytes | None = None
        self.status = 200
        self.delay = 0.0
        self.fetches = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                time.sleep(issuer.delay)
                body = issuer.raw or json.dumps(issuer.document).encode()
                self.send_response(issuer.status)
                if issuer.status == 302:
                    self.send_header("Location", issuer.url)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks"

    def jwk(self, key: Any, kid: str, **extra: Any) -> dict[str, Any]:
        return jwk(key, kid, **extra)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good claims, changed; None takes one out."""
        now = int(time.time())
        made = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "client-7",
            "exp": now + 300,
            "iat": now,
            "scope": "openid predict read",
        }
        return {name: value for name, value in (made | changes).items() if value is not None}

    def token(
        self, key: Any = None, kid: Any = "rsa-1", algorithm: str = "RS256", **changes: Any
    ) -> bytes:
        headers = {} if kid is None else {"kid": kid}
        signer = self.private.rsa if key is None else key
        made = jwt.encode(self.claims(**changes), signer, algorithm=algorithm, headers=headers)
        return made.encode()

    def settings(self, settings: Settings, **changes: Any) -> Settings:
        """Settings of a service that believes this issuer."""
        wanted = {
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "jwt_jwks_url": self.url,
            "jwt_algorithms": ("RS256", "ES256", "EdDSA"),
        }
        return Settings(**(settings.model_dump() | wanted | changes))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "service_keys.json"


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    """What is logged while the test runs."""
    with structlog.testing.capture_logs() as logged:
        yield logged


@pytest.fixture(scope="session")
def private_keys() -> PrivateKeys:
    return PrivateKeys.generate()


@pytest.fixture
def issuer(private_keys: PrivateKeys) -> Iterator[Issuer]:
    made = Issuer(private_keys)
    yield made
    made.close()
