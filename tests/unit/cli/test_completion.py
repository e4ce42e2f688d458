from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bc_pipeline.artifacts.store import Store

FIRST = "20261115T000000Z-logistic-3f2a9c1b7d"
SECOND = "20261122T000000Z-svm_rbf-00aa11bb22"
PROGRAM = """
import sys
sys.argv = ["bc-pipeline"]
from bc_pipeline.cli import main
try:
    main()
finally:
    heavy = {"rich", "numpy", "structlog", "pydantic_settings", "cryptography", "sqlalchemy"}
    print(*sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture
def filled(store: Store) -> Store:
    for name in (FIRST, SECOND):
        store.version(name).mkdir(parents=True)
    store.batches.mkdir(parents=True)
    store.batch_document("3f2a9c1b7d5e8a40").touch()
    store.datasets.mkdir(parents=True)
    store.dataset_document("aee66123ce1adaf0").touch()
    return store


def complete(line: str, home: str) -> list[str]:
    """The completions of a line, as bash requests them; nothing heavy may be imported."""
    environment = {
        "_BC_PIPELINE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "BC_HOME": home,
    }
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stderr.strip() == ""
    return answer.stdout.split()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bc-pipeline verdict ", [SECOND, FIRST]),
        ("bc-pipeline rollback 20261115", [FIRST]),
        ("bc-pipeline promote 3f2a", ["3f2a9c1"]),
        ("bc-pipeline anchor set 00", ["00aa11b"]),
        ("bc-pipeline verify-repro 3f2a9c1b", ["3f2a9c1b7d"]),
        ("bc-pipeline batch show ", ["3f2a9c1b7d5e8a40"]),
        ("bc-pipeline train --dataset ", ["aee66123ce1adaf0"]),
        ("bc-pipeline registry --problem ", ["wdbc"]),
        ("bc-pipeline verdict --problem other ", []),
        ("bc-pipeline verd", ["verdict"]),
    ],
)
def test_names_on_the_volume_are_completed(filled: Store, line: str, expected: list[str]) -> None:
    assert complete(line, str(filled.home)) == expected


@pytest.mark.integration
def test_a_volume_that_cannot_be_read_completes_nothing(filled: Store) -> None:
    assert complete("bc-pipeline verdict ", str(filled.verify_key)) == []
