from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from bc_pipeline.cli.app import configure
from bc_pipeline.cli.output import progress
configure(verbose=False, version=False)
with progress("scoring", quiet=True) as update:
    update("1 row", 0.5)
print({"structlog", "rich"} & set(sys.modules))
import rich
import structlog
structlog.get_logger().warning("still logs")
"""


def test_a_command_that_shows_json_does_not_load_rich() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "{'structlog'}\n"
    assert "still logs" in answer.stderr
