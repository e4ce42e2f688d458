from __future__ import annotations

import pytest

from bc_pipeline.serving.content_negotiation import preferred_type


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/markdown", "text/markdown"),
        ("TEXT/Markdown; charset=utf-8", "text/markdown"),
        ("text/*", "text/markdown"),
        ("text/markdown;q=0.4, application/json;q=0.5", "application/json"),
        ("text/markdown;q=0.5, */*;q=0.1", "text/markdown"),
        ("text/markdown;q=0", "application/json"),
        ("text/markdown;q=nan, application/json;q=0.1", "application/json"),
        ("text/markdown;q=5, application/json;q=0.1", "application/json"),
        ("image/png", "application/json"),
        (";;,,q=", "application/json"),
    ],
)
def test_the_type_with_the_highest_quality_is_chosen(accept: str, chosen: str) -> None:
    assert preferred_type(accept, ("application/json", "text/markdown")) == chosen
