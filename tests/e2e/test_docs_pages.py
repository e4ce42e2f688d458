"""The documentation pages in a real browser, which reports their requests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.settings import Settings
from tests.server_process import server_process

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is missing: 'apt-get install chromium' brings it"
)
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


PREFIX = "/predictions"


class _StrippingProxy(BaseHTTPRequestHandler):
    """Serves what is at `target` below `PREFIX`, and nothing else."""

    protocol_version = "HTTP/1.1"
    target = ""

    def do_GET(self) -> None:
        if not self.path.startswith(f"{PREFIX}/"):
            self.send_error(404)
            return
        names = {"accept", "if-none-match", "x-api-key"}
        headers = {name: value for name, value in self.headers.items() if name.lower() in names}
        answer = httpx.get(self.target + self.path.removeprefix(PREFIX), headers=headers)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name not in ("connection", "date", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: Any, **__: Any) -> None:
        return


@pytest.fixture
def proxy(address: str) -> Iterator[str]:
    """URL of a proxy that serves the service below a prefix."""
    handler = type("Proxy", (_StrippingProxy,), {"target": address})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def address(
    settings: Settings,
    releases: Any,
    fitted: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[str]:
    """URL of a running service with a loaded model, behind a proxy if the test has one."""
    monkeypatch.setenv("BC_ROOT_PATH", PREFIX if "proxy" in request.fixturenames else "")
    import_key(settings.service_keys, "tests", ["admin"], "key-of-the-browser-tests")
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with server_process(tmp_path / "log") as (_, port):
        yield f"http://127.0.0.1:{port}"


def browse(url: str, folder: Path) -> tuple[str, list[str], list[str]]:
    """The rendered page, violations of its policy, and the URLs that it requested."""
    assert CHROMIUM is not None
    network = folder / "network.json"
    done = subprocess.run(
        [
            CHROMIUM,
            *QUIET,
            f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr",
            f"--log-net-log={network}",
            "--virtual-time-budget=15000",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    violations = [
        line for line in done.stderr.splitlines() if "CONSOLE" in line and "violates" in line
    ]
    origin = "/".join(url.split("/")[:3])
    # Requests of the browser itself have no page as their initiator.
    requested = [
        event["params"]["url"]
        for event in json.loads(network.read_text())["events"]
        if event.get("params", {}).get("initiator") == origin and "url" in event["params"]
    ]
    return done.stdout, violations, requested


@pytest.mark.parametrize("page", ["/docs#/predict/post_v1_predict", "/redoc"])
def test_the_page_shows_every_operation_and_uses_no_other_host(
    address: str, page: str, tmp_path: Path
) -> None:
    assert_complete(address, page, tmp_path)


@pytest.mark.parametrize("page", ["/docs#/predict/post_v1_predict", "/redoc"])
def test_the_pages_work_below_a_prefix_that_a_proxy_strips(
    proxy: str, page: str, tmp_path: Path
) -> None:
    document, rendered = assert_complete(f"{proxy}{PREFIX}", page, tmp_path)
    (server,) = document["servers"]
    assert server["url"] == PREFIX
    assert PREFIX in rendered
    # Target of the requests that Swagger's "Try it out" sends.
    assert httpx.get(f"{proxy}{server['url']}/livez").json() == {"status": "ok"}


@pytest.mark.parametrize("page", ["/", "/health", "/problems"])
def test_plain_pages_find_their_style_and_links_below_a_prefix(
    proxy: str, page: str, tmp_path: Path
) -> None:
    rendered, violations, requested = browse(f"{proxy}{PREFIX}{page}", tmp_path)
    assert violations == []
    assert any("text.css" in url for url in requested)
    for link in re.findall(r'href="([^"]+)"', rendered):
        status = httpx.get(urljoin(f"{proxy}{PREFIX}{page}", link)).status_code
        assert status == (401 if link == "metrics" else 200), link


def assert_complete(address: str, page: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Every operation is shown, and nothing comes from elsewhere; returns document and page."""
    rendered, violations, requested = browse(address + page, folder)
    document = httpx.get(f"{address}/openapi.json").json()
    operations = [
        operation for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(operations) > 5
    for operation in operations:
        assert operation["summary"] in rendered.replace("&amp;", "&")
    # Part of the example of the loaded model.
    assert "mean_radius" in rendered
    assert violations == []
    assert f"{address}/openapi.json" in requested
    assert [url for url in requested if not url.startswith((f"{address}/", "data:", "blob:"))] == []
    return document, rendered
