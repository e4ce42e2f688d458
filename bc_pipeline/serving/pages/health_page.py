"""The state of the service as a page for a browser, without scripts or other hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from bc_pipeline.errors import PipelineError

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d5dae1;
  vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; width: 16rem; }
.ok { color: #11682f; }
.not { color: #a11; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e8ee; background: #12161c; }
  th, td { border-color: #36404d; }
  .ok { color: #6fd08c; }
  .not { color: #ff8a80; }
}
"""


def page(facts: Mapping[str, Any], error: PipelineError | None) -> str:
    """Render what ``/health`` tells.

    Parameters
    ----------
    error : PipelineError or None
        Why predictions cannot be answered.
    """
    if error is None:
        verdict = '<p class="ok">Predictions are answered.</p>'
    else:
        verdict = f'<p class="not">Predictions are not answered. {escape(str(error))}</p>'
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in _rows(facts)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Health of the prediction service</title><style>{_STYLE}</style></head><body>"
        f"<h1>Prediction service</h1>{verdict}<table><tbody>{rows}</tbody></table>"
        "</body></html>"
    )


def _rows(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        title = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _rows(value, f"{title}: ")
        elif value is not None:
            yield title, str(value)
