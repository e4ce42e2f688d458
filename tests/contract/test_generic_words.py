"""Code that is common to all problems has no word of one problem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bc_pipeline.problems import PROBLEMS
from bc_pipeline.problems.base import Problem

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".md", ".json", ".yaml", ".html", ".js", ".css", ".sh"}
# Where an installation chooses the problem that `/predict` answers for.
CHOICES = re.compile(r"service_problem: str = |\$\{BC_SERVICE_PROBLEM:-")


def words_of(problem: Problem) -> re.Pattern[str]:
    """The names of a problem, of its labels and of its features, as whole words."""
    labels = (problem.labels.positive.name, problem.labels.negative.name)
    words = sorted({problem.name, *labels, *problem.schema.names})
    return re.compile(rf"(?<![a-z])({'|'.join(map(re.escape, words))})(?![a-z])", re.IGNORECASE)


def generic_files() -> list[Path]:
    files = [ROOT / "docker-compose.yaml"]
    for folder in ("bc_pipeline", "dags", "plugins", "docker"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return [path for path in files if ROOT / "bc_pipeline" / "problems" not in path.parents]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_generic_files_name_no_problem(problem: Problem) -> None:
    pattern = words_of(problem)
    matches = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in generic_files()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line) and not CHOICES.search(line)
    ]
    assert matches == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('LABEL = "malignant"', True),
        ("f1_benign", True),
        ("The MALIGNANT ones", True),
        ("wdbc_retrain", True),
        ("mean_radius", True),
        ("border-radius: 1px", False),
    ],
)
def test_the_words_of_a_problem(line: str, named: bool) -> None:
    (wdbc,) = [problem for problem in PROBLEMS if problem.name == "wdbc"]
    assert bool(words_of(wdbc).search(line)) is named
