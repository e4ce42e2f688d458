"""The documentation pages in a real browser, which reports their requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE

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


@pytest.fixture
def address(settings: Settings, releases: Any, fitted: Any, tmp_path: Path) -> Iterator[str]:
    """URL of a running service with a loaded model."""
    import_key(settings.service_keys, "tests", ["admin"], "key-of-the-browser-tests")
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bc_pipeline.server", "--port", "0", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        yield f"http://127.0.0.1:{line['port']}"
    finally:
        process.communicate(timeout=PATIENCE)


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
    rendered, violations, requested = browse(address + page, tmp_path)
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
