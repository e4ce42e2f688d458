from __future__ import annotations

import subprocess
import sys

# The first array that a worker converts for pyarrow, in a new process.
PROGRAM = """
import sys
from bc_pipeline.server.import_blocker import block_import
block_import("pandas")
import numpy as np
import pyarrow as pa
assert pa.array(np.array([1.0, 2.0])).to_pylist() == [1.0, 2.0]
assert "pandas" not in sys.modules
try:
    import pandas
except ImportError:
    print("blocked")
"""


def test_pyarrow_works_without_a_blocked_package() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout == "blocked\n", done.stderr
