from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from bc_pipeline.errors import ConfigError, NotThere
from bc_pipeline.serving.pages import docs_page, text_page
from tests.unit.serving.conftest import Service


@pytest.mark.parametrize(
    ("path", "assets"), [("/docs", 4), ("/redoc", 4), ("/problems", 2), ("/health", 2)]
)
def test_a_page_names_only_assets_of_this_service_and_holds_no_script(
    service: Service, path: str, assets: int
) -> None:
    page = service.request("GET", path, headers={"Accept": "text/html"})
    needed = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(needed) >= assets
    for address in needed:
        assert service.get(address).status_code == 200, address
    assert re.findall(r"<script[^>]*>([^<]+)<", page.text) == []
    assert "style=" not in page.text
    assert "<style" not in page.text


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/docs", docs_page.SWAGGER_POLICY),
        ("/redoc", docs_page.REDOC_POLICY),
        ("/problems", text_page.POLICY),
        ("/health", text_page.POLICY),
    ],
)
def test_a_page_has_a_policy_of_its_own(service: Service, path: str, policy: str) -> None:
    page = service.request("GET", path, headers={"Accept": "text/html"})
    given = page.headers.get_list("content-security-policy")
    assert given == [policy]
    assert policy.startswith("default-src 'none'")
    assert "script-src 'self';" in policy or "script-src" not in policy
    assert "http" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_an_asset_is_kept_for_ever_and_its_address_changes_with_it(service: Service) -> None:
    address = re.findall(r'src="([^"]*swagger-start[^"]*)"', service.get("/docs").text)[0]
    asset = service.get(address)
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert address.endswith(f"?v={asset.headers['etag'].strip(chr(34))}")
    assert asset.headers["content-type"].startswith("text/javascript")
    again = service.request("GET", address, headers={"If-None-Match": asset.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_no_asset_asks_redocs_makers_for_their_logo() -> None:
    assert b"cdn.redoc.ly" not in docs_page.asset("redoc.standalone.js").data


@pytest.mark.parametrize("name", ["nothing.js", "core.py", "favicon.png", "%2e%2e%2fcore.py"])
def test_other_files_of_the_package_are_not_served(service: Service, name: str) -> None:
    assert service.get(f"/docs/assets/{name}").status_code == 404
    with pytest.raises(NotThere):
        docs_page.asset(name)


def test_the_package_is_found_and_not_imported(service: Service) -> None:
    assert service.get("/docs/assets/swagger-ui.css").status_code == 200
    assert "fastapi_offline" not in sys.modules


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed"):
        docs_page.asset("swagger-ui.css")
