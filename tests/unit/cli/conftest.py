from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def log_configuration() -> Iterator[None]:
    """A command sends logs to a stream that ends with it: other tests must not inherit that."""
    yield
    structlog.reset_defaults()
