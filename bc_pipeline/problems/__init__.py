"""The prediction problems of the pipeline, by name."""

from __future__ import annotations

from bc_pipeline.errors import ConfigError
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.wdbc import WDBC

PROBLEMS: tuple[Problem, ...] = (WDBC,)
DEFAULT_PROBLEM = PROBLEMS[0].name


def get_problem(name: str) -> Problem:
    """The problem of that name.

    Raises
    ------
    ConfigError
        Listing the names there are.
    """
    for problem in PROBLEMS:
        if problem.name == name:
            return problem
    known = ", ".join(problem.name for problem in PROBLEMS)
    raise ConfigError(f"There is no problem {name!r}.", f"Use one of: {known}.", setting="problem")
