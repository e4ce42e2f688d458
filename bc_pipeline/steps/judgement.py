"""From an exported challenger to a published version with its verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from bc_pipeline.artifacts import training_log, versions, work
from bc_pipeline.artifacts.evidence import Evaluation, Parity, Record, Verdict
from bc_pipeline.artifacts.files import decode_record, write_record
from bc_pipeline.artifacts.versions import VersionFiles
from bc_pipeline.errors import NoChampion
from bc_pipeline.steps.data import split_dataset
from bc_pipeline.steps.run import Result, Room, Run, enter

if TYPE_CHECKING:
    from bc_pipeline.artifacts.manifest import Recipe
    from bc_pipeline.data.split import Part
    from bc_pipeline.evaluation.build import ModelUnderTest
    from bc_pipeline.training.candidates import CandidateResult

GOLDEN_ROWS = 16
_R = TypeVar("_R", bound=Record)


def evaluate(run: Run, version: str) -> Result:
    """Score the challenger, and the champion, on the same holdout rows."""
    room = enter(run.problem)
    if room.store.version(version).exists():
        evaluation = _read(_open(room, version), versions.EVALUATION, Evaluation)
    else:
        evaluation = _evaluate(room, _challenger(room, version))
        training_log.append_line(
            room.store,
            "evaluation",
            run=run.run_id,
            version=version,
            champion=evaluation.champion.version if evaluation.champion else None,
            **evaluation.challenger.holdout.metrics,
        )
    metrics = evaluation.challenger.holdout.metrics
    return {
        "version": version,
        "champion": evaluation.champion.version if evaluation.champion else None,
        **{name: metrics[name] for name in ("f1", "sensitivity", "brier", "roc_auc")},
    }


def decide(run: Run, version: str) -> Result:
    """Judge the challenger, and publish it as a version with its verdict, passed or not."""
    from bc_pipeline.promotion import release

    room = enter(run.problem)
    if not room.store.version(version).exists():
        _judge(room, _challenger(room, version), run)
    stored = _open(room, version)
    verdict = _read(stored, versions.VERDICT, Verdict)
    release.record_verdict(
        room.store,
        version,
        verify_key=room.settings.verify_key,
        run_id=run.run_id,
        live=run.live,
    )
    return {
        "version": version,
        "passed": verdict.passed,
        "kind": verdict.kind,
        "reasons": list(verdict.reasons),
        "champion": verdict.champion,
        "digest": stored.manifest_sha256,
    }


def _challenger(room: Room, version: str) -> VersionFiles:
    settings = room.settings
    return work.find(room.store, version, settings.verify_key, settings.artifact_cipher())


def _open(room: Room, version: str) -> VersionFiles:
    return versions.open_stored(room.store, version, room.settings.verify_key)


def _read(files: VersionFiles, name: str, kind: type[_R]) -> _R:
    """A record among a version's files, from verified bytes."""
    return decode_record(files.read(name), kind, files.folder / name)


def _champion(room: Room) -> VersionFiles | None:
    try:
        return versions.open_champion(
            room.store, room.settings.verify_key, room.settings.artifact_cipher()
        )
    except NoChampion:
        return None


def _evaluate(room: Room, challenger: VersionFiles) -> Evaluation:
    """Write evaluation, figures and card among the challenger's files."""
    from bc_pipeline.evaluation import build, report
    from bc_pipeline.training.candidates import load_result

    problem, dataset = room.problem, challenger.manifest.lineage.dataset
    parts = split_dataset(room, dataset)
    results = [
        load_result(room.store, problem, dataset, candidate) for candidate in problem.candidates
    ]
    own = next(r for r in results if r.record.recipe == challenger.manifest.recipe.recipe)
    # The generation is read before the champion: should another release come between the
    # two reads, the promotion finds an older generation in the verdict and refuses.
    generation = versions.read_registry(room.store).generation
    live = _champion(room)
    champion = _under_test(room, live) if live else None
    if live:
        results += _former_candidate(room, live.manifest.recipe, dataset, parts.train)
    new = _under_test(room, challenger)
    evaluation = build.evaluate(
        problem,
        challenger=new,
        champion=champion,
        champion_generation=generation,
        train=parts.train,
        holdout=parts.holdout,
        oof_probability=own.pooled,
        losses={result.record.recipe: result.losses for result in results},
        parity=_read(challenger, work.PARITY, Parity),
    )
    write_record(challenger.folder / versions.EVALUATION, evaluation)
    report.write(
        problem, challenger.manifest, evaluation, new.predict, parts.holdout, challenger.folder
    )
    return evaluation


def _former_candidate(
    room: Room, recipe: Recipe, dataset: str, train: Part
) -> list[CandidateResult]:
    """Cross-validation of the champion's recipe, where it is no candidate of today's any more.

    Without it a candidate whose parameters were changed could never show that it is better.
    Empty where the recipe is a candidate, or where today's code cannot build it.
    """
    from bc_pipeline.training.candidates import cross_validate

    candidates = {candidate.name: candidate for candidate in room.problem.candidates}
    if recipe.candidate not in candidates:
        return []
    candidate = replace(candidates[recipe.candidate], title=recipe.title, params=recipe.params)
    if candidate.recipe != recipe.recipe or candidate.recipe in {
        each.recipe for each in candidates.values()
    }:
        return []
    return [
        cross_validate(
            room.problem,
            candidate,
            train.keys,
            train.values,
            train.positive,
            store=room.store,
            dataset=dataset,
            threads=room.settings.threads,
        )
    ]


def _under_test(room: Room, files: VersionFiles) -> ModelUnderTest:
    from bc_pipeline.artifacts.predictors import load_predictor
    from bc_pipeline.evaluation.build import ModelUnderTest

    manifest = files.manifest
    return ModelUnderTest(
        version=manifest.version,
        recipe=manifest.recipe.recipe,
        title=manifest.recipe.title,
        dataset=manifest.lineage.dataset,
        as_of=manifest.lineage.as_of,
        schema_fingerprint=manifest.schema_fingerprint,
        threshold=manifest.threshold,
        predict=load_predictor(files, room.settings.threads).positive,
    )


def _judge(room: Room, challenger: VersionFiles, run: Run) -> None:
    """Smoke-test the very artifact against scikit-learn, ask the gate, publish all of it."""
    from bc_pipeline.artifacts.export import load_estimator
    from bc_pipeline.promotion import gate
    from bc_pipeline.promotion.smoke import smoke_test

    path = challenger.folder / versions.EVALUATION
    evaluation = decode_record(path.read_bytes(), Evaluation, path)
    golden = split_dataset(room, challenger.manifest.lineage.dataset).holdout.values[:GOLDEN_ROWS]
    score = evaluation.challenger.holdout
    smoke = smoke_test(
        challenger.folder,
        room.settings.verify_key,
        golden_values=golden,
        golden_probability=load_estimator(challenger).predict_proba(golden)[:, 1],
        latency_ms=room.problem.gate.smoke_latency_ms,
        parity_bound=room.problem.gate.parity_bound,
        artifact_key=room.settings.artifact_key_file,
    )
    verdict = gate.decide(room.problem.gate, evaluation, smoke, looks_back=run.looks_back)
    write_record(challenger.folder / versions.VERDICT, verdict)
    draft = msgspec.structs.replace(challenger.manifest, metrics=score.metrics)
    versions.publish(room.store, draft, challenger.folder, room.settings.signing_key)
    training_log.append_line(
        room.store,
        "decision",
        run=run.run_id,
        version=verdict.challenger,
        champion=verdict.champion,
        kind=verdict.kind,
        passed=verdict.passed,
        reasons="; ".join(verdict.reasons) or "none",
    )
