from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from bc_pipeline.problems import PROBLEMS
from bc_pipeline.source_digest import source_digest

BUILDER = """
from {package}.steps import scaler as make_scaler
from {package} import constants


def build(params, seed):
    return make_scaler(), constants.DEPTH, helper(seed)


def helper(seed):
    return seed + OFFSET


OFFSET = 1


def unused():
    return 1
"""
FILES = {
    "__init__": "",
    "builders": BUILDER,
    "steps": "from sklearn.preprocessing import StandardScaler\n\n\n"
    "def scaler():\n    return StandardScaler()\n",
    "constants": "DEPTH = 3\nWIDTH = 4\n",
}
Build = Callable[..., str | None]
_NUMBERS = itertools.count()


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """``digest(builders=(old, new), ...)`` of a package with parts of its files exchanged."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def build(name: str = "build", /, **changes: tuple[str, str]) -> str | None:
        # A package name of its own for each state, since modules are read once; of equal
        # length and replaced by the same word, so that the names do not count.
        package = f"pkg{next(_NUMBERS):04d}"
        made.append(package)
        (tmp_path / package).mkdir()
        for file, text in FILES.items():
            old, new = changes.get(file, ("", ""))
            assert old in text
            changed = text.replace(old, new) if old else text
            (tmp_path / package / f"{file}.py").write_text(changed.replace("{package}", package))
        return source_digest(getattr(importlib.import_module(f"{package}.builders"), name))

    yield build
    for name in [name for name in sys.modules if name.split(".")[0] in made]:
        del sys.modules[name]


def test_layout_comments_and_docstrings_do_not_count(digest: Build) -> None:
    plain = digest()
    assert plain is not None
    assert plain == digest(
        builders=("def helper(seed):\n", "def helper(\n    seed\n):  # why\n    '''What.'''\n")
    )


def test_what_is_not_used_does_not_count(digest: Build) -> None:
    plain = digest()
    assert plain == digest(builders=("    return 1\n", "    return 2\n"))
    assert plain == digest(constants=("WIDTH = 4", "WIDTH = 5"))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("builders", "make_scaler(), ", ""),
        ("builders", "seed + OFFSET", "seed - OFFSET"),
        ("builders", "OFFSET = 1", "OFFSET = 2"),
        ("steps", "return StandardScaler()", "return StandardScaler(with_mean=False)"),
        ("steps", "import StandardScaler", "import RobustScaler as StandardScaler"),
        ("constants", "DEPTH = 3", "DEPTH = 4"),
    ],
)
def test_what_is_used_counts(digest: Build, file: str, old: str, new: str) -> None:
    assert digest() != digest(**{file: (old, new)})


def _factory(value: int) -> Callable[[], int]:
    def build() -> int:
        return value

    return build


class _Builder:
    def __call__(self) -> int:
        return 1


def test_captured_and_fixed_values_count() -> None:
    assert source_digest(_factory(1)) == source_digest(_factory(1))
    assert source_digest(_factory(1)) != source_digest(_factory(2))
    assert source_digest(partial(_factory, 1)) != source_digest(partial(_factory, 2))


def test_objects_and_lambdas_have_a_source() -> None:
    one, two = (lambda: 1), _Builder()
    other = lambda: 2  # noqa: E731 (the source of a lambda is tested)
    assert source_digest(one) not in {None, source_digest(other)}
    assert source_digest(two) == source_digest(_Builder()) is not None


def test_a_function_without_source_has_no_digest() -> None:
    module = ModuleType("typed_in")
    sys.modules["typed_in"] = module
    try:
        exec("def build():\n    return 1\n", module.__dict__)
        assert source_digest(module.build) is None
        assert source_digest(len) is None
    finally:
        del sys.modules["typed_in"]


def test_each_candidate_has_a_builder_of_its_own() -> None:
    for problem in PROBLEMS:
        digests = [source_digest(candidate.build) for candidate in problem.candidates]
        assert None not in digests
        assert len(set(digests)) == len(digests)
