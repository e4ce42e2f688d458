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

    @property
    def data_docs(self) -> Path:
        """Great Expectations' Data Docs: a static site."""
        return self.data / "data_docs"

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

    # The rest -------------------------------------------------------------------------

    @property
    def audit(self) -> Path:
        return self.home / "audit" / f"{self.problem}.jsonl"

    @property
    def scores(self) -> Path:
        return self.home / "scores" / self.problem

    @property
    def training_log(self) -> Path:
        return self.home / "logs" / "training.log"
