"""The state of the service as a page for a browser, without scripts or other hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.pages.text_page import text_page


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
    return text_page(
        "Health of the prediction service",
        f"<h1>Prediction service</h1>{verdict}<table><tbody>{rows}</tbody></table>",
    )


def _rows(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        title = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _rows(value, f"{title}: ")
        elif value is not None:
            yield title, str(value)
