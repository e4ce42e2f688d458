from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bc_pipeline.problems.base import Problem


@pytest.fixture(scope="session")
def candidates(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """Every candidate of the real problem, fitted on the real rows."""
    values, codes = reference
    positive = wdbc.labels.to_positive(codes)
    return {
        candidate.name: candidate.build(candidate.params, 7).fit(values, positive)
        for candidate in wdbc.candidates
    }
