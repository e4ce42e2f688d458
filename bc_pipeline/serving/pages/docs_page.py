"""The documentation pages, Swagger UI and ReDoc, and their assets.

Both programs come from the package fastapi-offline. Its files are served unchanged, except
that ReDoc's logo is replaced: it would be loaded from another host. The pages contain no inline
scripts, so their policies allow none.
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
# Relative: a proxy may serve the pages, which all stand at the top, below a prefix.
_ASSETS = "docs/assets"
_NO_FRAMES = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OWN_ORIGIN = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:"
SWAGGER_POLICY = f"{_OWN_ORIGIN}; style-src 'self'; {_NO_FRAMES}"
# ReDoc adds two inline style elements: an empty one that it fills by script, and one for its
# scroll bars. Another release may need other digests; the browser test would fail then.
_REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
# ReDoc runs its search in a worker that it creates from a blob.
REDOC_POLICY = f"{_OWN_ORIGIN}; style-src 'self' {_REDOC_STYLES}; worker-src blob:; {_NO_FRAMES}"

_REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_STATIC = Path(__file__).with_name("static")
_OWN_ASSETS = frozenset(path.name for path in _STATIC.iterdir())
_PACKAGE_ASSETS = {"swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"}
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """A file of a page."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()[:16]


def load_asset(name: str) -> Asset:
    """Load an asset by its name.

    Raises
    ------
    NotThere
        Where there is no asset of this name.
    ConfigError
        Where fastapi-offline is not installed.
    """
    if name in _OWN_ASSETS:
        data = (_STATIC / name).read_bytes()
    elif name in _PACKAGE_ASSETS:
        data = _package_file(name).replace(_REDOC_LOGO, f"{_ASSETS}/icon.svg".encode())
    else:
        raise NotThere("There is no such asset.")
    return Asset(_MEDIA_TYPES[Path(name).suffix], data)


def _package_file(name: str) -> bytes:
    # Located without importing it: only its files are needed.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{_PACKAGE} is not installed.", "Install requirements/serving.txt.")
    return (Path(spec.submodule_search_locations[0]) / "static" / name).read_bytes()


@lru_cache
def asset_url(name: str) -> str:
    """Relative URL of an asset; it changes with the content, so browsers may cache it for ever."""
    return f"{_ASSETS}/{name}?v={load_asset(name).digest}"


def render_swagger() -> str:
    return _page(("page.css", "swagger-ui.css"), ("swagger-ui-bundle.js", "swagger-start.js"))


def render_redoc() -> str:
    return _page(("page.css",), ("redoc.standalone.js", "redoc-start.js"))


def _page(styles: tuple[str, ...], scripts: tuple[str, ...]) -> str:
    links = "".join(f'<link rel="stylesheet" href="{asset_url(name)}">' for name in styles)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(TITLE)}</title><link rel="icon" href="{asset_url("icon.svg")}">{links}'
        '</head><body><div id="docs"></div>'
        + "".join(f'<script src="{asset_url(name)}"></script>' for name in scripts)
        + "</body></html>"
    )
