from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts import files
from bc_pipeline.artifacts.files import staged_directory, staged_file, write_atomic
from bc_pipeline.artifacts.leftovers import SUFFIX, remove_leftovers
from bc_pipeline.artifacts.store import Store
from bc_pipeline.settings import Settings

_DIE = (
    "import os, sys\n"
    "from pathlib import Path\n"
    "from bc_pipeline.artifacts.files import staged_directory, staged_file\n"
    "folder = Path(sys.argv[1])\n"
    "with staged_file(folder / 'a.json') as one, staged_directory(folder / 'v1') as two:\n"
    "    one.write_text('half')\n"
    "    (two / 'model.onnx').write_text('half')\n"
    "    os.kill(os.getpid(), 9)\n"
)


def _kill_while_writing(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _DIE, str(folder)], check=False)
    assert done.returncode == -9
    assert len(_temporary(folder)) == 2


def _temporary(folder: Path) -> list[Path]:
    return sorted(folder.glob(f".*{SUFFIX}"))


@pytest.mark.integration
def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(
    tmp_path: Path,
) -> None:
    with staged_file(tmp_path / "b.json") as file, staged_directory(tmp_path / "v2") as folder:
        (folder / "model.onnx").write_text("whole")
        live = _temporary(tmp_path)
        done = subprocess.run([sys.executable, "-c", _DIE, str(tmp_path)], check=False)
        assert done.returncode == -9
        removed = remove_leftovers([tmp_path, tmp_path / "none"])
        assert len(removed) == 2
        assert _temporary(tmp_path) == live == sorted([file, folder])
    assert (tmp_path / "b.json").is_file()
    assert (tmp_path / "v2" / "model.onnx").read_text() == "whole"
    assert remove_leftovers([tmp_path]) == []


@pytest.mark.integration
def test_the_next_run_removes_what_a_killed_one_left(settings: Settings, store: Store) -> None:
    for folder in (store.batches, store.work, store.versions, store.scores / "20260301T000000Z"):
        folder.mkdir(parents=True)
        _kill_while_writing(folder)
    own = store.landing / ".week.csv.part"
    own.parent.mkdir(parents=True)
    own.write_text("a file that somebody is copying")
    steps.ingest(settings, steps.Run("wdbc", "r", "2026-03-01T00:00:00Z"))
    assert not list(settings.home.rglob(f".*{SUFFIX}"))
    assert own.is_file()


def test_an_entry_that_was_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_entry = files.lock_entry
    removed = []

    def lose_the_first(path: Path, descriptor: int) -> bool:
        if not removed:
            removed.append(path)
            os.unlink(path)
        return lock_entry(path, descriptor)

    monkeypatch.setattr(files, "lock_entry", lose_the_first)
    write_atomic(tmp_path / "a.json", b"1")
    assert len(removed) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
