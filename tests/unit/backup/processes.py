"""Backups and restores that are killed at one of their steps; run by test_crash.py.

Usage: processes.py {backup|restore} PLAN.json REPORT.json. It is a program of its own so that
it can fork: the test's process holds threads.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import require_store
from bc_pipeline.artifacts.versions import open_champion
from bc_pipeline.backup.create import create_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.backup.verify import verify_backup
from bc_pipeline.errors import PipelineError, StoreUnfit
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from tests.unit.backup.age_keys import recipient_of
from tests.unit.promotion.processes import Countdown, forked, waited


def killed_at(step: int, work: Callable[[], Any]) -> int:
    """Run in a child that is killed at its n-th step; its exit code, or minus the signal."""

    def run() -> None:
        Countdown(step).install()
        work()

    return waited(forked(run))


def backup(plan: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    """Kill a backup at every n-th step, and report what it left."""
    reports = []
    for step in range(1, 100_000, plan["stride"]):
        backups = Path(plan["room"]) / str(step)
        backups.mkdir()
        target = backups / "backup"
        code = killed_at(step, lambda target=target: create_backup(settings, target))
        named = target.exists()
        if named:
            verify_backup(target, settings)
        unnamed = [_counts_of(path, settings) for path in backups.iterdir() if path != target]
        again = create_backup(settings, target, force=True)
        scratch = [path.name for path in settings.home.glob(".backup-*")]
        reports.append(
            {
                "code": code,
                "named": named,
                "unnamed": unnamed,
                "again": again.checked.counts,
                "scratch": scratch,
            }
        )
        shutil.rmtree(backups)
        if code == 0:
            return reports
    raise AssertionError("the backup never ended")


def _counts_of(path: Path, settings: Settings) -> dict[str, int] | None:
    """Counts of a file without its final name; None where it is not a complete backup."""
    try:
        return verify_backup(path, settings).counts
    except PipelineError:
        return None


def restore(plan: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    """Kill a restore at every n-th step, and report what it left."""
    reports = []
    file = Path(plan["file"])
    for step in range(1, 100_000, plan["stride"]):
        home = Path(plan["room"]) / str(step)
        new = settings.model_copy(update={"home": home})
        code = killed_at(step, lambda new=new: restore_backup(new, file))
        state = _state(new)
        areas = [path.name for path in home.glob("[!.]*")]
        champion = read_registry(Store(home, "wdbc")).production
        restore_backup(new, file, replace=True)
        reports.append(
            {
                "code": code,
                "state": state,
                "champion": champion is not None,
                "areas": areas,
                "again": _state(new),
            }
        )
        shutil.rmtree(home)
        if code == 0:
            return reports
    raise AssertionError("the restore never ended")


def _state(settings: Settings) -> str:
    """The state of the volume for a command that starts on it."""
    try:
        require_store(settings.home)
    except StoreUnfit:
        return "refused"
    if not settings.home.exists() or not any(settings.home.glob("[!.]*")):
        return "empty"
    store = Store(settings.home, "wdbc")
    audit.verify(store)
    open_champion(store, settings.verify_key).verify_all()
    names = {path.name for path in settings.home.glob("[!.]*")}
    return "whole" if {"audit", "data", "keys", "models", "records"} <= names else "part"


if __name__ == "__main__":
    mode, plan_file, report_file = sys.argv[1:]
    # A killed process loses no data that the kernel has; fsync would only slow the rounds down.
    os.fsync = lambda descriptor: None
    plan = json.loads(Path(plan_file).read_text())
    key = Path(plan["key"])
    settings = Settings(
        home=Path(plan["home"]), backup_recipients=(recipient_of(key),), backup_key_file=key
    )
    report = {"backup": backup, "restore": restore}[mode](plan, settings)
    Path(report_file).write_text(json.dumps(report))
