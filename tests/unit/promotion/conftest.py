"""Judged challengers: versions with an evaluation and a verdict, as the gate leaves them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
import time_machine

from bc_pipeline.artifacts import signed_bundle, versions, work_folder
from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.evidence import Confusion, Evaluation, Parity, Score, Side
from bc_pipeline.artifacts.files import make_directory, write_document
from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Check, Verdict
from bc_pipeline.clock import parse_time
from bc_pipeline.promotion import decisions, release
from bc_pipeline.promotion.release import ReleaseResult

AT = "2026-11-15T06:00:00Z"


def clock_at(at: str | None) -> Any:
    """A context in which the clock shows a time; None leaves it as it is."""
    return nullcontext() if at is None else time_machine.travel(parse_time(at), tick=False)


def _side(version: str) -> Side:
    score = Score(
        rows_digest="r",
        threshold=0.4,
        keys=("k",),
        positive=(1,),
        probability=(0.9,),
        confusion=Confusion(1, 0, 0, 0),
        metrics={"f1": 1.0},
        intervals={},
        sensitivity_lower_bound=None,
        calibration=(),
        slices=(),
    )
    return Side(version, "logistic-0", "Logistic regression", "d", AT, "s", score)


class Challengers:
    """Makes challengers against the champion of the moment, and releases them."""

    clock_at = staticmethod(clock_at)

    def __init__(self, releases: Any) -> None:
        self._releases = releases
        self.store: Store = releases.store
        self.verify_key: Path = releases.settings.verify_key
        self.signing_key: Path = releases.settings.signing_key

    def prepare(
        self,
        name: str,
        *,
        verdict: dict[str, Any] | None = None,
        evaluation: dict[str, Any] | None = None,
        live: bool = True,
        without: str = "",
    ) -> tuple[Manifest, Path]:
        """Draft and folder of a challenger; the mappings override fields of its records."""
        registry = read_registry(self.store)
        champion = registry.production.version if registry.production else None
        measured = Evaluation(
            problem=self.store.problem,
            challenger=_side(name),
            champion=_side(champion) if champion else None,
            champion_generation=registry.generation,
            cross_validation=_side(name).holdout,
            holdout_comparisons=(),
            recipe_comparison=None,
            parity=Parity(1, 0.0, 0),
        )
        decided = Verdict(
            problem=self.store.problem,
            kind="refresh" if champion else "first",
            passed=True,
            better=False,
            challenger=name,
            champion=champion,
            champion_generation=registry.generation,
            policy_digest="p",
            rows_digest="r",
            reasons=(),
            checks=(Check("floor", "f1 at least 0.9", passed=True, blocking=True),),
        )
        folder = make_directory(self.store.work / name)
        (folder / signed_bundle.MODEL).write_bytes(b"graph of " + name.encode())
        records: dict[str, Document] = {
            signed_bundle.EVALUATION: msgspec.structs.replace(measured, **(evaluation or {})),
            signed_bundle.VERDICT: msgspec.structs.replace(decided, **(verdict or {})),
        }
        for file, record in records.items():
            if file != without:
                write_document(folder / file, record)
        draft = self._releases.draft(name)
        lineage = msgspec.structs.replace(draft.lineage, live=live)
        return msgspec.structs.replace(draft, lineage=lineage), folder

    def leave(self, name: str, *, evaluated: bool = True) -> None:
        """Store a challenger that is not published, with or without its evaluation."""
        draft, folder = self.prepare(name)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        evidence = {
            file: files.pop(file) for file in (signed_bundle.EVALUATION, signed_bundle.VERDICT)
        }
        work_folder.create(self.store, draft, files, self.signing_key)
        if evaluated:
            opened = work_folder.open_challenger(self.store, name, self.verify_key)
            work_folder.write_evidence(self.store, opened, evidence | {"card.md": b"# card"})

    def publish(self, name: str, **changes: Any) -> Manifest:
        draft, folder = self.prepare(name, **changes)
        return versions.publish(self.store, draft, folder, self.signing_key)

    def promote(self, name: str, **options: Any) -> ReleaseResult:
        options = {"actor": "test", "run_id": "run"} | options
        with clock_at(options.pop("at", AT)):
            return release.promote(self.store, name, verify_key=self.verify_key, **options)

    def record(self, name: str, **options: Any) -> Any:
        options = {"run_id": "run"} | options
        with clock_at(options.pop("at", AT)):
            return decisions.record_verdict(self.store, name, verify_key=self.verify_key, **options)

    def rollback(self, name: str | None = None, reason: str = "") -> ReleaseResult:
        with clock_at(AT):
            return release.rollback(
                self.store, name, verify_key=self.verify_key, actor="test", reason=reason
            )

    def crown(self, *names: str) -> None:
        """Publish and promote versions, one after the other."""
        for name in names:
            self.publish(name)
            assert self.promote(name).changed

    @property
    def champion(self) -> str | None:
        production = read_registry(self.store).production
        return production.version if production else None


@pytest.fixture
def challengers(releases: Any) -> Challengers:
    return Challengers(releases)
