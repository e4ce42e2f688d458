"""The layout of the shared volume: the only module that knows a path on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Store:
    """Where everything of one problem stands.

    Attributes
    ----------
    home : Path
        Root of the shared volume, ``BC_HOME``.
    problem : str
    """

    home: Path
    problem: str

    # Data -----------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        return self.home / "data" / self.problem

    @property
    def landing(self) -> Path:
        """Labelled files as they arrived; ingest reads them and leaves them."""
        return self.data / "landing"

    @property
    def batches(self) -> Path:
        return self.data / "batches"

    def batch_rows(self, batch: str) -> Path:
        return self.batches / f"{batch}.parquet"

    def batch_record(self, batch: str) -> Path:
        """Written last: a batch exists once this file does."""
        return self.batches / f"{batch}.json"

    @property
    def batches_lock(self) -> Path:
        return self.batches / ".lock"

    @property
    def quarantine(self) -> Path:
        return self.data / "quarantine"

    def quarantined(self, batch: str) -> Path:
        """Where each row of a batch that was not accepted is named, with the reasons."""
        return self.quarantine / f"{batch}.csv"

    @property
    def datasets(self) -> Path:
        return self.data / "datasets"

    def dataset_rows(self, dataset: str) -> Path:
        return self.datasets / f"{dataset}.parquet"

    def dataset_record(self, dataset: str) -> Path:
        """Written last: a dataset exists once this file does."""
        return self.datasets / f"{dataset}.json"

    @property
    def datasets_lock(self) -> Path:
        return self.datasets / ".lock"

    @property
    def validations(self) -> Path:
        """Results of expectation suites, by id."""
        return self.data / "validations"

    def validation_record(self, validation: str) -> Path:
        return self.validations / f"{validation}.json"

    def validation_results(self, validation: str) -> Path:
        """What Great Expectations found, expectation by expectation; counts, no values."""
        return self.validations / "results" / f"{validation}.json"

    @property
    def data_docs(self) -> Path:
        """Great Expectations' Data Docs: a static site."""
        return self.data / "data_docs"

    def validation_page(self, validation: str) -> Path:
        return self.data_docs / "validations" / f"{validation}.html"

    def suite_page(self, purpose: str) -> Path:
        return self.data_docs / "expectations" / f"{purpose}.html"

    @property
    def data_docs_lock(self) -> Path:
        return self.data_docs / ".lock"

    @property
    def worklist(self) -> Path:
        """Files without labels that wait for batch scoring."""
        return self.data / "worklist"

    # Models ---------------------------------------------------------------------------

    @property
    def models(self) -> Path:
        return self.home / "models" / self.problem

    @property
    def candidates(self) -> Path:
        """Cross-validation results, by dataset, recipe, seed and code version."""
        return self.models / "candidates"

    @property
    def work(self) -> Path:
        """Challengers that were exported but not judged yet."""
        return self.models / "work"

    @property
    def versions(self) -> Path:
        return self.models / "versions"

    def version(self, version: str) -> Path:
        return self.versions / version

    @property
    def registry(self) -> Path:
        return self.models / "registry.json"

    @property
    def registry_lock(self) -> Path:
        return self.models / ".registry.lock"

    @property
    def mirror_lock(self) -> Path:
        """Held while MLflow is brought up to date: two at once would write everything twice."""
        return self.models / ".mirror.lock"

    # The rest -------------------------------------------------------------------------

    @property
    def audit(self) -> Path:
        return self.home / "audit" / f"{self.problem}.jsonl"

    @property
    def audit_lock(self) -> Path:
        return self.home / "audit" / f".{self.problem}.lock"

    @property
    def scores(self) -> Path:
        return self.home / "scores" / self.problem

    @property
    def training_log(self) -> Path:
        return self.home / "logs" / "training.log"
