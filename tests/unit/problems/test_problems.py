from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.problems import PROBLEMS, get_problem
from bc_pipeline.problems.base import Problem

ROOT = Path(__file__).parents[3]


def test_module_suites_and_list_of_problems_agree() -> None:
    names = {problem.name for problem in PROBLEMS}
    modules = {path.stem for path in (ROOT / "bc_pipeline/problems").glob("*.py")}
    suites = {path.name for path in (ROOT / "expectations").iterdir() if path.is_dir()}
    assert (
        names
        == modules - {"__init__", "base", "class_profile", "policies", "wdbc_profile"}
        == suites
    )


def test_an_unknown_problem_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="Use one of: wdbc"):
        get_problem("rna")


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_reference_rows_fit_the_schema(problem: Problem) -> None:
    reference = problem.load_reference()
    assert reference.values.shape == (len(reference.codes), len(problem.schema.names))
    assert set(np.unique(reference.codes)) == {
        problem.labels.positive.code,
        problem.labels.negative.code,
    }


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_candidates_have_different_names_and_are_built_unfitted(problem: Problem) -> None:
    assert len({candidate.recipe for candidate in problem.candidates}) == len(problem.candidates)
    assert len({candidate.complexity for candidate in problem.candidates}) == len(
        problem.candidates
    )
    for candidate in problem.candidates:
        one, two = candidate.build(candidate.params, 1), candidate.build(candidate.params, 1)
        assert one is not two
        assert not any(name.endswith("_") and name[0] != "_" for name in vars(one))
        assert problem.candidate(candidate.name) is candidate


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_slices_name_features_of_the_schema(problem: Problem) -> None:
    assert {slice_.feature for slice_ in problem.slices} <= set(problem.schema.names)


def test_a_recipe_changes_with_its_parameters(wdbc: Problem) -> None:
    candidate = wdbc.candidates[0]
    other = replace(candidate, params={**candidate.params, "C": 2.0})
    assert other.recipe != candidate.recipe
    assert replace(candidate, title="x").recipe == candidate.recipe


def test_the_policy_digest_changes_with_every_field(wdbc: Problem) -> None:
    changed = {
        "floors": wdbc.gate.floors[1:],
        "margins": wdbc.gate.margins[1:],
        "anchor_margins": wdbc.gate.anchor_margins[1:],
        "advisory": frozenset({"f1_tie"}) ^ wdbc.gate.advisory,
        "leak": replace(wdbc.gate.leak, least_share=0.6),
    }
    for field in fields(wdbc.gate):
        value = changed.get(field.name)
        if value is None:
            value = getattr(wdbc.gate, field.name) + 1
        assert replace(wdbc.gate, **{field.name: value}).digest != wdbc.gate.digest, field.name
