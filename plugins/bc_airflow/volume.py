"""Read-only access to the shared volume for Airflow's pages; signatures are verified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts import signed_bundle, versions
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.evaluated_rows import EvaluatedRows, evaluated_rows, metric_names
from bc_pipeline.artifacts.evidence import Evaluation, Score
from bc_pipeline.artifacts.manifest import Manifest, Registry
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_document import read_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.errors import AuditBroken, StoreError, VersionNotFound
from bc_pipeline.problems import PROBLEMS
from bc_pipeline.promotion.approvals import decisions_about, requesters, requests_of
from bc_pipeline.settings import Settings

_DAGS = ("retrain", "approval", "batch_score")
_AUDIT_LINE_BYTES = 4096
_PAGE_REMEDY = "Validating the same rows makes it again; the signed result is in validations/."
# Files that may be downloaded, by suffix; models and rows are not among them.
_CONTENT_TYPES = {
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Judged:
    """A published version and its verdict.

    Attributes
    ----------
    manifest_sha256 : str
        Identity of the version: the manifest holds the digest of every other file.
    evaluated : tuple of EvaluatedRows
        Its figures, nested cross-validation first; none where it has no evaluation.
    champion : Score or None
        The champion's figures on the same holdout rows.
    """

    manifest: Manifest
    manifest_sha256: str
    verdict: Verdict
    evaluated: tuple[EvaluatedRows, ...] = ()
    champion: Score | None = None

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics of `evaluated`."""
        return metric_names(self.evaluated)

    @property
    def figures(self) -> list[str]:
        prefix = f"{signed_bundle.FIGURES}/"
        return sorted(name for name in self.manifest.files if name.startswith(prefix))

    @property
    def card(self) -> str | None:
        return signed_bundle.CARD if signed_bundle.CARD in self.manifest.files else None


@dataclass(frozen=True)
class Volume:
    """The models of one problem, and the key that their signatures are checked with."""

    store: Store
    verify_key: Path

    def judged(self, version: str) -> Judged:
        """A version with its verdict.

        Raises
        ------
        VersionNotFound, SignatureInvalid, ArtifactCorrupt
        """
        files = versions.open_stored(self.store, version, self.verify_key)
        verdict = files.read_document(signed_bundle.VERDICT, Verdict)
        if signed_bundle.EVALUATION not in files.manifest.files:
            return Judged(files.manifest, files.manifest_sha256, verdict)
        evaluation = files.read_document(signed_bundle.EVALUATION, Evaluation)
        champion = evaluation.champion.holdout if evaluation.champion else None
        return Judged(
            files.manifest, files.manifest_sha256, verdict, evaluated_rows(evaluation), champion
        )

    def newest_first(self) -> Iterator[Judged]:
        """Every version, the latest as-of time first, without those that do not verify."""
        for version in reversed(versions.list_versions(self.store)):
            try:
                yield self.judged(version)
            except StoreError:
                continue

    def made_by(self, run_id: str) -> list[Judged]:
        """The versions that a run made first, those that passed before the others."""
        made = [
            judged for judged in self.newest_first() if judged.manifest.lineage.run_id == run_id
        ]
        return sorted(made, key=lambda judged: not judged.verdict.passed)

    def registry(self) -> Registry:
        return read_registry(self.store)

    def is_champion(self, version: str) -> bool:
        production = self.registry().production
        return production is not None and production.version == version

    def champion_of(self, judged: Judged) -> Judged | None:
        """The champion that a version was compared with; None where there is none to read."""
        try:
            return self.judged(judged.verdict.champion) if judged.verdict.champion else None
        except StoreError:
            return None

    def requesters(self, version: str) -> set[str]:
        """Who started the runs that judged a version; the log's signatures are checked.

        Raises
        ------
        AuditBroken
        """
        return requesters(read_audit_log(self.store).trusted, version)

    def requests(self, version: str) -> list[str]:
        """Who started the runs that judged a version, for people."""
        try:
            return requests_of(read_audit_log(self.store).trusted, version)
        except AuditBroken:
            return ["not known: the audit log does not verify"]

    def decisions(self, version: str) -> list[str]:
        """What persons and the pipeline decided about a version, for people."""
        try:
            return decisions_about(read_audit_log(self.store).trusted, version)
        except AuditBroken:
            return ["not known: the audit log does not verify"]

    def why_superseded(self, judged: Judged) -> str:
        """Which version came after this challenger; empty where it is still the one that waits."""
        registry, verdict = self.registry(), judged.verdict
        version, champion = judged.manifest.version, registry.production
        current = champion.version if champion else None
        if version == current:
            return ""
        if (registry.generation, current) != (verdict.champion_generation, verdict.champion):
            return f"{version} was superseded: {self._named(current)} is the champion since."
        staging = registry.staging
        if staging is not None and staging.version != version:
            return f"{version} was superseded by {self._named(staging.version)}."
        return ""

    def _named(self, version: str | None) -> str:
        """A version and the run that made it."""
        if version is None:
            return "no model"
        return f"{version} of run {self.judged(version).manifest.lineage.run_id}"

    def audit_tail(self, lines: int) -> list[dict[str, Any]]:
        """The last entries of the audit log, newest first; the chain is not checked here."""
        try:
            with self.store.audit.open("rb") as stream:
                end = stream.seek(0, 2)
                stream.seek(max(0, end - lines * _AUDIT_LINE_BYTES))
                tail = stream.read().splitlines()[-lines:]
        except FileNotFoundError:
            return []
        return [entry for line in reversed(tail) if isinstance(entry := _decode(line), dict)]

    def file(self, version: str, name: str) -> tuple[bytes, str]:
        """Bytes and content type of a figure or card of a version.

        Only files that the manifest lists are opened, and their digests are checked.

        Raises
        ------
        VersionNotFound
            Where there is no such version, or it has no such file to show.
        SignatureInvalid, ArtifactCorrupt
        """
        files = versions.open_stored(self.store, version, self.verify_key)
        content_type = _CONTENT_TYPES.get(Path(name).suffix)
        if name not in files.manifest.files or content_type is None:
            raise VersionNotFound(f"{version} has no {name!r} to show.", version=version)
        return files.read(name), content_type

    def card(self, version: str) -> str:
        """The model card of a version, in Markdown.

        Raises
        ------
        VersionNotFound
            Where there is no such version, or it has no card.
        SignatureInvalid, ArtifactCorrupt
        """
        return self.file(version, signed_bundle.CARD)[0].decode()

    def data_doc(self, name: str) -> bytes:
        """A page of the expectation suites' Data Docs.

        Raises
        ------
        VersionNotFound
            Where there is no such page.
        SignatureInvalid
        """
        root = self.store.data_docs
        path = root / name
        is_below = path.is_relative_to(root) and ".." not in Path(name).parts
        if not is_below or path.suffix != ".html" or not path.is_file():
            raise VersionNotFound(f"The Data Docs have no page {name!r}.", version=name)
        return read_signed(self.store, path, _PAGE_REMEDY)


def volume_of(settings: Settings, problem: str) -> Volume:
    return Volume(Store.of(settings, problem), settings.verify_key)


def is_own_dag(dag_id: str) -> bool:
    """Whether the DAG is of this project."""
    return any(dag_id == f"{problem.name}_{kind}" for problem in PROBLEMS for kind in _DAGS)


def volume_of_dag(settings: Settings, dag_id: str) -> Volume | None:
    """The models that a DAG works on; None for a DAG of another project."""
    for problem in PROBLEMS:
        if dag_id in {f"{problem.name}_{kind}" for kind in _DAGS}:
            return volume_of(settings, problem.name)
    return None


def _decode(line: bytes) -> Any:
    """One line of the log; None for a line whose beginning was not read."""
    try:
        return json.loads(line)
    except ValueError:
        return None
