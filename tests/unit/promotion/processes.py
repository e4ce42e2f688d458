"""Real processes that are killed in the midst of a release, or collide; run by test_crash.py.

Usage: processes.py {crash|race|append} PLAN.json REPORT.json. It is a program of its own so
that it can fork: the test's process holds threads.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.audit_log import OUTCOMES, read_audit_log
from bc_pipeline.artifacts.files import read_document
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_champion, publish
from bc_pipeline.errors import VersionConflict
from bc_pipeline.promotion import audit, decisions, release

# Calls that change the disk, or order the changes on it. A write is two steps, so that a
# process can die with half of it done.
STEPS = ("open", "fsync", "replace", "rename", "chmod", "fchmod", "mkdir", "unlink", "rmdir")
AT = "2026-11-15T06:00:00Z"


class Countdown:
    """Kills this process, without warning, at the n-th step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        for name in STEPS:
            setattr(os, name, self._counted(getattr(os, name)))
        real_fdopen = os.fdopen
        os.fdopen = lambda *args, **named: Stream(real_fdopen(*args, **named), self)

        def write_bytes(path: Path, data: bytes) -> None:
            with Stream(path.open("wb"), self) as stream:
                stream.write(data)

        Path.write_bytes = write_bytes

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.step()
            return real(*args, **named)

        return call


class Stream:
    """A file whose every write passes through a state where half of it is on the disk."""

    def __init__(self, real: Any, countdown: Countdown) -> None:
        self._real = real
        self._countdown = countdown

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._real.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, data: bytes) -> None:
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._countdown.step()
            self._real.write(part)
            self._real.flush()

    def truncate(self, size: int) -> None:
        self._countdown.step()
        self._real.truncate(size)


def forked(work: Callable[[], None]) -> int:
    """Run in a child; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            work()
            code = 0
        except VersionConflict:
            code = 3
        finally:
            os._exit(code)
    return child


def waited(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcomes(store: Store) -> list[tuple[str, int, str]]:
    return [
        (line.event, line.generation, line.version)
        for line in read_audit_log(store).lines
        if line.event in OUTCOMES
    ]


def crash(plan: dict[str, Any]) -> dict[str, Any]:
    """Kill a release at its 1st, 2nd, 3rd ... step, each time on a fresh volume."""
    template, room = Path(plan["home"]), Path(plan["room"])
    draft = read_document(Path(plan["draft"]), Manifest)

    def run(home: Path) -> None:
        store, keys = Store(home, "wdbc"), home / "keys"
        options = {"verify_key": keys / "verify.pem"}
        if plan["release"] == "promotion":
            publish(store, draft, store.work / draft.version, keys / "signing.pem")
            decisions.record_verdict(store, draft.version, **options)
            release.promote(store, draft.version, **options)
        else:
            release.rollback(store, plan["version"], actor="test", **options)

    def state(home: Path) -> list[Any]:
        """What a reader sees; it raises where anything does not verify."""
        store = Store(home, "wdbc")
        audit.verify(store)
        generation = read_registry(store).generation
        if generation == 0:
            return ["", 0]
        champion = open_champion(store, home / "keys" / "verify.pem")
        champion.verify_all()
        return [champion.manifest.version, generation]

    def killed(home: Path, step: int) -> None:
        Countdown(step).install()
        run(home)

    seen: list[dict[str, Any]] = []
    for step in range(1, 1000):
        home = room / str(step)
        shutil.copytree(template, home)
        code = waited(forked(lambda home=home, step=step: killed(home, step)))
        after_kill = state(home)
        run(home)
        rest = {"state": state(home), "outcomes": outcomes(Store(home, "wdbc"))}
        events = [line.event for line in read_audit_log(Store(home, "wdbc")).lines]
        seen.append({"code": code, "killed": after_kill, "events": events} | rest)
        shutil.rmtree(home)
        if code == 0:
            return {"steps": seen}
    raise AssertionError("the release never ended")


def race(plan: dict[str, Any]) -> dict[str, Any]:
    """Two processes promote at once, on a fresh volume each round."""
    rounds = []
    for number in range(plan["rounds"]):
        home = Path(plan["room"]) / str(number)
        shutil.copytree(plan["home"], home)
        store, key = Store(home, "wdbc"), home / "keys" / "verify.pem"
        gate_read, gate_write = os.pipe()

        def promote(
            version: str, store: Store = store, key: Path = key, gate: int = gate_read
        ) -> None:
            os.read(gate, 1)
            release.promote(store, version, verify_key=key)

        children = [
            forked(lambda version=version, promote=promote: promote(version))
            for version in plan["versions"]
        ]
        os.write(gate_write, b"go")
        codes = [waited(child) for child in children]
        os.close(gate_read)
        os.close(gate_write)
        audit.verify(store)
        champion = open_champion(store, key).manifest.version
        rounds.append(
            {
                "codes": codes,
                "champion": champion,
                "generation": read_registry(store).generation,
                "outcomes": outcomes(store),
            }
        )
    return {"rounds": rounds}


def append(plan: dict[str, Any]) -> dict[str, Any]:
    """Several processes write to one audit log."""
    store = Store(Path(plan["home"]), "wdbc")

    def write(name: str) -> None:
        for number in range(plan["lines"]):
            version = f"{name}{number}"
            audit.append(store, "verdict", version=version, generation=0, actor=name, at=AT)

    codes = [waited(child) for child in [forked(lambda name=name: write(name)) for name in "abc"]]
    return {"codes": codes, "versions": [line.version for line in read_audit_log(store).lines]}


if __name__ == "__main__":
    mode, plan_file, report_file = sys.argv[1:]
    # A killed process loses nothing that the kernel has; waiting for the disk would only
    # make hundreds of rounds slow.
    os.fsync = lambda descriptor: None
    plan = json.loads(Path(plan_file).read_text())
    report = {"crash": crash, "race": race, "append": append}[mode](plan)
    Path(report_file).write_text(json.dumps(report))
