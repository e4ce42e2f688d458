from __future__ import annotations

import subprocess
import sys

# What a worker meets with its first CSV, in a process that has loaded nothing yet.
FIRST_ARRAY = """
import sys
from bc_pipeline.serving.process.withheld import withhold
withhold("pandas")
import numpy as np
import pyarrow as pa
assert pa.array(np.array([1.0, 2.0])).to_pylist() == [1.0, 2.0]
assert "pandas" not in sys.modules
try:
    import pandas
except ImportError:
    print("withheld")
"""


def test_pyarrow_does_without_a_package_that_is_withheld() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_ARRAY], capture_output=True, text=True, check=False
    )
    assert done.stdout == "withheld\n", done.stderr
