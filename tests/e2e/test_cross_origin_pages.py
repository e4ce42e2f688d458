"""Pages of other origins in a real browser: what their scripts can read of the answers."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.settings import Settings
from tests.e2e.test_docs_pages import CHROMIUM, browse
from tests.server_process import server_process

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is missing: 'apt-get install chromium' brings it"
)
KEY = "key-of-the-browser-tests"
# Shows status and code of each answer, or that the browser gave the script nothing.
SCRIPT = """
const ask = async ([key, body]) => {
  try {
    const answer = await fetch(ADDRESS + '/predict', {
      method: 'POST', body: body.length ? body : 'x'.repeat(3e6),
      headers: {'Content-Type': 'application/json', 'X-API-Key': key}});
    const content = await answer.json();
    return [answer.status, content.code || content.label, answer.headers.has('X-Request-Id'),
      answer.headers.get('Retry-After') !== null];
  } catch (error) { return 'unreadable'; }
};
(async () => {
  const answers = [];
  for (const request of REQUESTS) answers.push(await ask(request));
  document.body.textContent = '<<' + JSON.stringify(answers) + '>>';
})();
"""


class _Page(BaseHTTPRequestHandler):
    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *_: Any, **__: Any) -> None:
        return


@pytest.fixture
def pages() -> Iterator[tuple[type[_Page], list[str]]]:
    """Two origins that serve the same page."""
    handler = type("Page", (_Page,), {})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    threads = [Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield handler, [f"http://127.0.0.1:{server.server_address[1]}" for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


def test_scripts_of_allowed_origins_read_every_answer_and_others_none(
    pages: tuple[type[_Page], list[str]],
    settings: Settings,
    releases: Any,
    fitted: Any,
    reference: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler, (allowed, other) = pages
    monkeypatch.setenv("BC_CORS_ORIGINS", allowed)
    monkeypatch.setenv("BC_RATE_LIMIT_KEY", "3/hour")
    import_key(settings.service_keys, "tests", ["predict"], KEY)
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    record = json.dumps({"features": reference[0][0].tolist()})
    requests = [("a-wrong-key", record), (KEY, record), (KEY, "{"), (KEY, ""), (KEY, record)]
    with server_process(tmp_path / "log") as (_, port):
        script = SCRIPT.replace("ADDRESS", json.dumps(f"http://127.0.0.1:{port}"))
        script = script.replace("REQUESTS", json.dumps(requests))
        handler.page = f"<body><script>{script}</script></body>".encode()
        assert read(other, tmp_path / "other") == ["unreadable"] * len(requests)
        assert read(allowed, tmp_path / "allowed") == [
            [401, "key-refused", True, False],
            [200, "malignant", True, False],
            [400, "body-unreadable", True, False],
            [413, "body-too-large", True, False],
            [429, "rate-limited", True, True],
        ]


def read(origin: str, folder: Path) -> Any:
    """What the script of a page was given."""
    folder.mkdir()
    rendered, _, _ = browse(origin, folder)
    (shown,) = re.findall(r"<<(.*?)>>", html.unescape(rendered))
    return json.loads(shown)
