"""The documentation pages: Swagger UI and ReDoc, with every asset served from here.

The two programs come with the package fastapi-offline, whose files are served as they are,
but for one address: ReDoc would ask another host for a logo. No page has a script of its
own in it, so the policies need not allow any.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

from bc_pipeline.errors import ConfigError, NotThere
from bc_pipeline.serving.pages.documentation import TITLE

_PACKAGE = "fastapi_offline"
_ADDRESS = "/docs/assets"
_NOBODY = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OWN = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:"
SWAGGER_POLICY = f"{_OWN}; style-src 'self'; {_NOBODY}"
# ReDoc adds two style elements: an empty one, which it fills by script, and that of its
# scroll bars. Another release may have another text; the test in a browser tells.
_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
# Its search is a worker, which it makes from its own text.
REDOC_POLICY = f"{_OWN}; style-src 'self' {_STYLES}; worker-src blob:; {_NOBODY}"

_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_SWAGGER_START = b"""\
window.addEventListener("load", function () {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#docs",
    deepLinking: true,
    validatorUrl: null,
    persistAuthorization: false
  });
});
"""
_REDOC_START = b"""\
window.addEventListener("load", function () {
  Redoc.init("/openapi.json", { nativeScrollbars: true }, document.getElementById("docs"));
});
"""
_STYLE = b"body { margin: 0; padding: 0; }\n"
# For pages that are text: of health and of problems.
_TEXT_STYLE = b"""\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d5dae1;
  vertical-align: top; }
th { font-weight: 600; }
th[scope=row] { width: 16rem; }
th[scope=row] + td { overflow-wrap: anywhere; }
.ok { color: #11682f; }
.not { color: #a11; }
:target { background: #fff4c2; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e8ee; background: #12161c; }
  th, td { border-color: #36404d; }
  a { color: #7db8f5; }
  .ok { color: #6fd08c; }
  .not { color: #ff8a80; }
  :target { background: #4a4113; }
}
"""
_ICON = b"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">\
<circle cx="8" cy="8" r="7" fill="#0b5cad"/><circle cx="8" cy="8" r="3" fill="#fff"/></svg>
"""
_SCRIPT, _CSS, _SVG = "text/javascript", "text/css", "image/svg+xml"
_OURS = {
    "swagger-start.js": (_SCRIPT, _SWAGGER_START),
    "redoc-start.js": (_SCRIPT, _REDOC_START),
    "page.css": (_CSS, _STYLE),
    "text.css": (_CSS, _TEXT_STYLE),
    "icon.svg": (_SVG, _ICON),
}
_THEIRS = {
    "swagger-ui-bundle.js": _SCRIPT,
    "swagger-ui.css": _CSS,
    "redoc.standalone.js": _SCRIPT,
}


@dataclass(frozen=True)
class Asset:
    """A file that a page needs."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()[:16]


def asset(name: str) -> Asset:
    """A file by its name.

    Raises
    ------
    NotThere
        Where it is none of ours.
    ConfigError
        Where fastapi-offline is not installed.
    """
    if name in _OURS:
        return Asset(*_OURS[name])
    if name not in _THEIRS:
        raise NotThere("There is no such asset.")
    return Asset(_THEIRS[name], _package_file(name).replace(_LOGO, b"/docs/assets/icon.svg"))


def _package_file(name: str) -> bytes:
    # Found, not imported: the package would bring a second way to build an application.
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"{_PACKAGE} is not installed.", "Install requirements/serving.txt.")
    return (Path(found.submodule_search_locations[0]) / "static" / name).read_bytes()


@lru_cache
def address_of(name: str) -> str:
    """Changes with the file's content, so that a browser may keep it for ever."""
    return f"{_ADDRESS}/{name}?v={asset(name).digest}"


def swagger_page() -> str:
    return _page(("page.css", "swagger-ui.css"), ("swagger-ui-bundle.js", "swagger-start.js"))


def redoc_page() -> str:
    return _page(("page.css",), ("redoc.standalone.js", "redoc-start.js"))


def _page(styles: tuple[str, ...], scripts: tuple[str, ...]) -> str:
    links = "".join(f'<link rel="stylesheet" href="{address_of(name)}">' for name in styles)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(TITLE)}</title><link rel="icon" href="{address_of("icon.svg")}">{links}'
        '</head><body><div id="docs"></div>'
        + "".join(f'<script src="{address_of(name)}"></script>' for name in scripts)
        + "</body></html>"
    )
