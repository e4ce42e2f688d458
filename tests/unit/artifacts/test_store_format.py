"""The volume's format: 1 where it is absent; a later one is refused; a new volume gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bc_pipeline.artifacts.store_format import (
    FILE,
    RESTORING,
    STORE_FORMAT,
    claim_store,
    read_format,
    require_store,
)
from bc_pipeline.errors import ArtifactCorrupt, StoreUnfit


def test_the_format_is_written_on_a_new_volume(tmp_path: Path) -> None:
    home = tmp_path / "home"
    require_store(home)
    assert not home.exists()
    claim_store(home)
    assert read_format(home) == STORE_FORMAT
    claim_store(home)
    assert (home / FILE).read_text() == f'{{\n  "format": {STORE_FORMAT}\n}}\n'


def test_a_store_without_the_file_has_format_1(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert read_format(tmp_path) == 1
    claim_store(tmp_path, known=1)
    assert read_format(tmp_path) == 1


def test_an_older_store_requires_an_upgrade(tmp_path: Path) -> None:
    registry = tmp_path / "models" / "toy" / "registry.json"
    registry.parent.mkdir(parents=True)
    registry.write_text("{}")
    for act in (require_store, claim_store):
        with pytest.raises(StoreUnfit, match="bc-pipeline upgrade") as caught:
            act(tmp_path, known=2)
        assert (caught.value.found, caught.value.known) == (1, 2)
    assert not (tmp_path / FILE).exists()


def test_a_new_volume_gets_the_current_format(tmp_path: Path) -> None:
    claim_store(tmp_path, known=3)
    assert read_format(tmp_path) == 3
    with pytest.raises(StoreUnfit, match="format 3; this release reads up to format 1"):
        require_store(tmp_path, known=1)


def test_unknown_fields_do_not_prevent_reading_the_format(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"format": 9, "moons": 2}')
    with pytest.raises(StoreUnfit, match="format 9"):
        require_store(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "1"}'])
def test_a_damaged_format_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ArtifactCorrupt):
        require_store(tmp_path)


def test_a_half_restored_volume_is_refused(tmp_path: Path) -> None:
    claim_store(tmp_path)
    (tmp_path / RESTORING).mkdir()
    for act in (require_store, claim_store):
        with pytest.raises(StoreUnfit, match="cut short"):
            act(tmp_path)
