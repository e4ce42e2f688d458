"""What the pages need to know of Airflow's runs."""

from __future__ import annotations

from typing import Protocol


class Runs(Protocol):
    """Runs as Airflow's database has them; each method takes the ids of a DAG and of its run."""

    def decided_versions(self, dag_id: str, run_id: str) -> list[str]:
        """The versions that the run's gate judged, the winner first.

        A run that repeats an earlier one has the versions of that one.
        """

    def ingest_notes(self, dag_id: str, run_id: str) -> list[str]:
        """Notes about files and rows that the run's ingest refused."""

    def why_selected(self, dag_id: str, run_id: str) -> str:
        """Why the run selected its candidate; empty where it is not known."""

    def failures(self, dag_id: str, run_id: str) -> list[str]:
        """The tasks that failed, and why."""
