from __future__ import annotations

import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.version_names import list_names, resolve_name, shorten_names
from bc_pipeline.errors import VersionAmbiguous

ONE = "20261115T000000Z-logistic-3f2a9c1b7d"
TWIN = "20261122T000000Z-logistic-3f2a9c1c00"
OTHER = "20261122T000000Z-random_forest-00aa11bb22"


@pytest.fixture
def three(store: Store) -> Store:
    for name in (ONE, OTHER):
        store.version(name).mkdir(parents=True)
    (store.work / TWIN).mkdir(parents=True)
    (store.work / ".hidden.staged").mkdir()
    return store


def test_a_short_name_is_as_long_as_it_has_to_be() -> None:
    assert shorten_names([ONE, OTHER]) == {ONE: "3f2a9c1", OTHER: "00aa11b"}
    assert shorten_names([ONE, TWIN]) == {ONE: "3f2a9c1b", TWIN: "3f2a9c1c"}


def test_a_name_without_a_digest_of_its_own_is_shown_in_full() -> None:
    names = ["20261115T000000Z-a-3f2a9c1b7d", "20261122T000000Z-b-3f2a9c1b7d", "v1"]
    assert shorten_names(names) == {name: name for name in names}


def test_short_names_stand_for_versions_and_challengers(three: Store) -> None:
    assert list_names(three) == sorted([ONE, OTHER, TWIN])
    for name, short in shorten_names(list_names(three)).items():
        assert resolve_name(three, short) == name
        assert resolve_name(three, name) == name
    assert resolve_name(three, "20261115") == ONE


@pytest.mark.parametrize("text", ["3", "3f2"])
def test_a_name_that_is_too_short_is_called_so(three: Store, text: str) -> None:
    with pytest.raises(VersionAmbiguous, match="at least 4 characters"):
        resolve_name(three, text)


def test_an_ambiguous_short_name_lists_its_candidates(three: Store) -> None:
    with pytest.raises(VersionAmbiguous, match="Give more of the name") as failed:
        resolve_name(three, "3f2a9c1")
    assert failed.value.candidates == (ONE, TWIN)
    assert ONE in str(failed.value)
    assert TWIN in str(failed.value)
    assert resolve_name(three, "3f2a9c1c") == TWIN


@pytest.mark.parametrize("text", ["4f2", "nope", "../../x", "9c1b7d"])
def test_what_is_no_beginning_stays_what_it_is(three: Store, text: str) -> None:
    assert resolve_name(three, text) == text


def test_a_volume_without_versions(store: Store) -> None:
    assert list_names(store) == []
    assert resolve_name(store, "3f2a9c1") == "3f2a9c1"
