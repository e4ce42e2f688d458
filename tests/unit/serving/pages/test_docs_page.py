from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from bc_pipeline.errors import ConfigError, NotThere
from bc_pipeline.serving.pages import docs_page, text_pages
from tests.unit.serving.conftest import Service


@pytest.mark.parametrize(
    ("path", "assets"),
    [("/docs", 4), ("/redoc", 4), ("/problems", 2), ("/health", 2), ("/", 2)],
)
def test_pages_load_only_own_assets_and_have_no_inline_scripts_or_styles(
    service: Service, path: str, assets: int
) -> None:
    page = service.request("GET", path, headers={"Accept": "text/html"})
    urls = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(urls) >= assets
    for address in urls:
        # Relative, so that the page works below any prefix; /metrics needs a key.
        assert not address.startswith(("/", "http"))
        assert service.get(f"/{address}").status_code == (401 if address == "metrics" else 200)
    assert re.findall(r"<script[^>]*>([^<]+)<", page.text) == []
    assert "style=" not in page.text
    assert "<style" not in page.text


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/docs", docs_page.SWAGGER_POLICY),
        ("/redoc", docs_page.REDOC_POLICY),
        ("/problems", text_pages.POLICY),
        ("/health", text_pages.POLICY),
        ("/", text_pages.POLICY),
    ],
)
def test_each_page_has_its_own_strict_content_security_policy(
    service: Service, path: str, policy: str
) -> None:
    page = service.request("GET", path, headers={"Accept": "text/html"})
    assert page.headers.get_list("content-security-policy") == [policy]
    assert policy.startswith("default-src 'none'")
    assert "script-src 'self';" in policy or "script-src" not in policy
    assert "http" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_assets_are_immutable_and_their_url_has_their_digest(service: Service) -> None:
    address = re.findall(r'src="([^"]*swagger-start[^"]*)"', service.get("/docs").text)[0]
    asset = service.get(f"/{address}")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert address.endswith(f"?v={asset.headers['etag'].strip(chr(34))}")
    assert asset.headers["content-type"].startswith("text/javascript")
    again = service.request("GET", f"/{address}", headers={"If-None-Match": asset.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_redoc_loads_no_logo_from_another_host() -> None:
    assert b"cdn.redoc.ly" not in docs_page.load_asset("redoc.standalone.js").data


@pytest.mark.parametrize("name", ["nothing.js", "core.py", "favicon.png", "%2e%2e%2fcore.py"])
def test_only_listed_assets_are_served(service: Service, name: str) -> None:
    assert service.get(f"/docs/assets/{name}").status_code == 404
    with pytest.raises(NotThere):
        docs_page.load_asset(name)


def test_assets_are_read_without_importing_their_package(service: Service) -> None:
    assert service.get("/docs/assets/swagger-ui.css").status_code == 200
    assert "fastapi_offline" not in sys.modules


def test_a_missing_asset_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed"):
        docs_page.load_asset("swagger-ui.css")
