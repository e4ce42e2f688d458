from __future__ import annotations

import pytest

from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.settings import Settings


@pytest.fixture
def api_key(settings: Settings) -> str:
    key = "test-key-of-the-unit-tests"
    import_key(settings.service_keys, "tests", ["admin"], key)
    return key
