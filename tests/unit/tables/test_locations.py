from __future__ import annotations

from pathlib import Path

import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.tables.locations import FileLocation, copy_to, find_tables


@pytest.fixture(params=["", "file://"], ids=["path", "url"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    for name in (
        "day=1/a.csv",
        "day=1/a.parquet",
        "day=1/_SUCCESS",
        "day=1/_part.csv",
        "day=1/.hidden.csv",
        "day=1/notes.txt",
        "day=1/deep/b.csv",
        "day=2/a.CSV",
        "day=10/a.csv",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return f"{request.param}{tmp_path}"


def names(source: str) -> list[str]:
    return [found.location.name for found in find_tables(source)]


def test_a_folder_lists_the_tables_directly_in_it(tree: str) -> None:
    assert names(f"{tree}/day=1") == ["a.csv", "a.parquet"]
    assert names(f"{tree}/day=1/") == ["a.csv", "a.parquet"]


def test_a_single_file_may_have_any_name(tree: str) -> None:
    (found,) = find_tables(f"{tree}/day=1/notes.txt")
    assert (found.location, found.size) == (
        FileLocation(f"{tree}/day=1/notes.txt", "notes.txt"),
        15,
    )
    assert found.modified > 0


def test_a_wildcard_does_not_match_a_slash(tree: str) -> None:
    assert names(f"{tree}/*/a.*") == [
        "day=1/a.csv",
        "day=1/a.parquet",
        "day=10/a.csv",
        "day=2/a.CSV",
    ]
    assert names(f"{tree}/day=?/*.csv") == ["a.csv"]
    assert names(f"{tree}/day=[!1]/a.*") == ["a.CSV"]
    assert names(f"{tree}/day=[12]/a.*") == ["day=1/a.csv", "day=1/a.parquet", "day=2/a.CSV"]
    assert names(f"{tree}/*.csv") == []


def test_listed_files_can_be_opened(tree: str) -> None:
    for found in find_tables(f"{tree}/*/a.*"):
        with found.location.open("rb") as stream:
            assert stream.read().decode().endswith(found.location.name)


def test_a_missing_folder_lists_no_files(tree: str) -> None:
    assert names(f"{tree}/nowhere") == names(f"{tree}/nowhere/*.csv") == []


def test_an_unknown_scheme_is_a_configuration_error(tree: str) -> None:
    with pytest.raises(ConfigError, match=r"ftp://host/a\.csv cannot be reached"):
        find_tables("ftp://host/a.csv")


def test_a_copy_leaves_no_temporary_file(tree: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10_000_000)
    copy_to(source, f"{tree}/new/part.csv")
    copy_to(source, f"{tree}/new/part.csv")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["part.csv"]
    assert (tmp_path / "new" / "part.csv").read_bytes() == source.read_bytes()
