"""The layout of the shared volume: no other module knows its paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings


def label_codes_path(path: Path) -> Path:
    """The file beside a landed file that declares its label codes."""
    return path.with_name(f"{path.name}.labels.json")


@dataclass(frozen=True)
class Store:
    """The paths of one problem's files, and the keys that sign and verify them.

    Attributes
    ----------
    home : Path
        Root of the shared volume, ``BC_HOME``.
    problem : str
    signing_key_file, verify_key_file : Path, optional
        Default: the keys on the volume.
    """

    home: Path
    problem: str
    signing_key_file: Path | None = None
    verify_key_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings, problem: str) -> Store:
        """The store of a problem on the configured volume, with the configured keys."""
        return cls(settings.home, problem, settings.signing_key, settings.verify_key)

    @property
    def signing_key(self) -> Path:
        """Private key; only processes that write files of the volume have it."""
        return self.signing_key_file or self.home / "keys" / "signing.pem"

    @property
    def verify_key(self) -> Path:
        return self.verify_key_file or self.home / "keys" / "verify.pem"

    def relative(self, path: Path) -> str:
        """Path of a file on the volume, such as ``models/<problem>/registry.json``."""
        return path.relative_to(self.home).as_posix()

    @staticmethod
    def lock(folder: Path) -> Path:
        """The file that is locked while a process writes to a folder."""
        return folder / ".lock"

    # Data -----------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        return self.home / "data" / self.problem

    @property
    def landing(self) -> Path:
        """Labelled files as they arrived; ingest does not change them."""
        return self.data / "landing"

    @property
    def batches(self) -> Path:
        return self.data / "batches"

    def batch_rows(self, batch: str) -> Path:
        return self.batches / f"{batch}.parquet"

    def batch_document(self, batch: str) -> Path:
        """Written last: a batch exists once this file does."""
        return self.batches / f"{batch}.json"

    @property
    def batch_histories(self) -> Path:
        """Decisions about a batch; a batch without the file counts since it arrived."""
        return self.data / "batch_history"

    def batch_history(self, batch: str) -> Path:
        return self.batch_histories / f"{batch}.json"

    @property
    def erasures(self) -> Path:
        """Notes of rows that were erased."""
        return self.data / "erasures"

    def erasure_note(self, erasure: str) -> Path:
        return self.erasures / f"{erasure}.json"

    @property
    def quarantine(self) -> Path:
        return self.data / "quarantine"

    def quarantined(self, batch: str) -> Path:
        """Every rejected row of a batch, with the reasons."""
        return self.quarantine / f"{batch}.csv"

    @property
    def datasets(self) -> Path:
        return self.data / "datasets"

    def dataset_rows(self, dataset: str) -> Path:
        return self.datasets / f"{dataset}.parquet"

    def dataset_document(self, dataset: str) -> Path:
        """Written last: a dataset exists once this file does."""
        return self.datasets / f"{dataset}.json"

    @property
    def validations(self) -> Path:
        """Results of expectation suites, by id."""
        return self.data / "validations"

    def validation_document(self, validation: str) -> Path:
        return self.validations / f"{validation}.json"

    def validation_results(self, validation: str) -> Path:
        """Results of each expectation: counts, no values."""
        return self.validation_details / f"{validation}.json"

    @property
    def validation_details(self) -> Path:
        return self.validations / "results"

    @property
    def data_docs(self) -> Path:
        """Great Expectations' Data Docs: a static site."""
        return self.data / "data_docs"

    def validation_page(self, validation: str) -> Path:
        return self.data_docs / "validations" / f"{validation}.html"

    def suite_page(self, purpose: str) -> Path:
        return self.data_docs / "expectations" / f"{purpose}.html"

    @property
    def worklist(self) -> Path:
        """Files without labels to be scored."""
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
        """Challengers that are exported and not yet published."""
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
        """Locked while the mirror writes to MLflow, so that no two processes write the same."""
        return self.models / ".mirror.lock"

    @property
    def written_folders(self) -> list[Path]:
        """The folders in which files and folders are made under temporary names."""
        return [
            self.landing,
            self.batches,
            self.batch_histories,
            self.erasures,
            self.quarantine,
            self.datasets,
            self.validations,
            self.validation_details,
            self.data_docs,
            *(self.data_docs / name for name in ("validations", "expectations")),
            self.worklist,
            self.models,
            self.candidates,
            self.work,
            self.versions,
            *self.scores.glob("[!.]*"),
        ]

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

    def distrusted(self, key_id: str) -> Path:
        """Files that a compromised signing key signed, at their former paths."""
        return self.home / "distrusted" / key_id

    @property
    def training_log(self) -> Path:
        return self.home / "logs" / "training.log"
