"""The way of an older volume to a release of later: step by step, killed and run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bc_pipeline.artifacts.store_format import STORE_FORMAT, read_format
from bc_pipeline.errors import StackError, StoreUnfit
from bc_pipeline.prediction_log import database as records_database
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.database_copy import copy_database, load_copy
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.settings import Settings
from bc_pipeline.stack.state import ProcessState, StackState, save_state
from bc_pipeline.stack.upgrade import STEPS, Step, upgrade, upgrade_volume
from bc_pipeline.workspace import open_workspace
from tests.volumes import copy_earlier_store


def _note(name: str) -> Step:
    """A step that leaves a line; it counts as done where the line is there already."""

    def apply(settings: Settings) -> None:
        path = settings.home / "models" / name
        path.write_text(str(int(path.read_text() or 0) + 1) if path.exists() else "1")

    return Step(f"write {name}", apply)


RECORDED = "01a1ff57-fa10-7008-bd9d-34591f78f251"
LATER = {1: _note("a"), 2: _note("b")}


@pytest.fixture
def old(settings: Settings) -> Settings:
    """A volume of format 1, without the file that says so."""
    (settings.home / "models" / "wdbc" / "versions" / "v").mkdir(parents=True)
    return settings


def test_there_is_a_step_for_each_format_of_before() -> None:
    assert sorted(STEPS) == list(range(1, STORE_FORMAT))


def test_each_step_is_done_once_and_in_order(old: Settings) -> None:
    done = upgrade(old, known=3, steps=LATER)
    assert (done.found, done.format, done.steps) == (1, 3, ("write a", "write b"))
    assert read_format(old.home) == 3
    again = upgrade(old, known=3, steps=LATER)
    assert (again.found, again.steps) == (3, ())
    assert [(old.home / "models" / name).read_text() for name in "ab"] == ["1", "1"]


def test_a_dry_run_tells_and_changes_nothing(old: Settings) -> None:
    planned = upgrade(old, dry_run=True, known=3, steps=LATER)
    assert planned.steps == ("write a", "write b")
    assert {path.name for path in old.home.rglob("*")} == {"models", "wdbc", "versions", "v"}


def test_an_upgrade_goes_on_where_it_was_cut_short(old: Settings) -> None:
    def fail(_: Settings) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        upgrade(old, known=3, steps={1: LATER[1], 2: Step("fail", fail)})
    assert read_format(old.home) == 2
    upgrade(old, known=3, steps=LATER)
    assert read_format(old.home) == 3
    assert (old.home / "models" / "a").read_text() == "1"


def test_a_kill_in_the_midst_of_a_step_leaves_the_earlier_format(old: Settings) -> None:
    code = (
        "import os, signal\n"
        "from bc_pipeline.settings import Settings\n"
        "from bc_pipeline.stack.upgrade import Step, upgrade_volume\n"
        "def die(settings):\n"
        "    (settings.home / 'models' / 'half').write_text('')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "upgrade_volume(Settings(), known=2, steps={1: Step('die', die)})\n"
    )
    environment = os.environ | {"BC_HOME": str(old.home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -9
    assert (old.home / "models" / "half").exists()
    assert read_format(old.home) == 1
    upgrade_volume(old, known=2, steps={1: LATER[1]})
    assert read_format(old.home) == 2


def test_a_new_volume_needs_no_steps(settings: Settings) -> None:
    upgrade_volume(settings, known=3, steps=LATER)
    assert read_format(settings.home) == 3
    assert not (settings.home / "models").exists()


def test_nothing_changes_under_a_running_stack(old: Settings) -> None:
    me = psutil.Process()
    running = ProcessState("supervisor", "ready", me.pid, me.create_time())
    save_state(old, StackState(running, (), {}))
    with pytest.raises(StackError, match="make down"):
        upgrade(old, known=2, steps=LATER)
    assert read_format(old.home) == 1
    # With nothing to change it is no obstacle.
    upgrade(old, known=1, steps={})


def test_a_later_volume_is_left_alone(old: Settings) -> None:
    (old.home / "store.json").write_text('{"format": 7}')
    for act in (upgrade, upgrade_volume):
        with pytest.raises(StoreUnfit, match="format 7"):
            act(old)
    assert json.loads((old.home / "store.json").read_text()) == {"format": 7}


def test_steps_refuse_a_volume_that_is_not_of_this_release(old: Settings) -> None:
    upgrade(old)
    open_workspace(old, "wdbc")
    (old.home / "store.json").write_text('{"format": 7}')
    with pytest.raises(StoreUnfit):
        open_workspace(old, "wdbc")


@pytest.fixture
def later_migration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A migration of a later release, beside those of this one."""
    later = tmp_path / "migrations"
    shutil.copytree(records_database._MIGRATIONS, later)
    (later / "versions" / "v0002_later.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = '0002', '0001', None, None\n"
        "def upgrade():\n    op.add_column('predictions', sa.Column('ward', sa.Text))\n"
    )
    monkeypatch.setattr(records_database, "_MIGRATIONS", later)


@pytest.fixture
def stored(settings: Settings) -> Iterator[Settings]:
    """The store of the first release, whose database is at the first migration."""
    copy_earlier_store(settings)
    yield settings
    open_database(settings).close()


def test_a_database_is_upgraded_with_the_volume(stored: Settings, later_migration: None) -> None:
    planned = upgrade(stored, dry_run=True)
    assert (planned.database_found, planned.database) == ("0001", "0002")
    assert open_database(stored).revision() == "0001"
    done = upgrade(stored)
    assert (done.database_found, done.database) == ("0001", "0002")
    assert open_database(stored).revision() == "0002"
    assert find_prediction(stored, RECORDED).outcome is not None


def test_a_database_is_upgraded_by_the_drainer(stored: Settings, later_migration: None) -> None:
    drainer = Drainer(stored, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    assert open_database(stored).revision() == "0002"
    assert find_prediction(stored, RECORDED).drained


def test_an_older_database_is_backed_up_as_it_is_and_restored_into_a_later_one(
    stored: Settings, later_migration: None, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite"
    assert copy_database(stored, copy, lambda _: None) == "sqlite 0001"
    target = Settings(home=tmp_path / "new", records_url=f"sqlite:///{tmp_path / 'other.sqlite'}")
    with load_copy(target, copy):
        pass
    assert open_database(target).revision() == "0002"
    assert find_prediction(target, RECORDED).outcome is not None
    open_database(target).close()
