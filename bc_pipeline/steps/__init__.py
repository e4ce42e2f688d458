"""One function per workflow step: what an Airflow task and the command line both call.

A step takes the `Run` it belongs to and the ids that earlier steps gave; it returns a
small dict of JSON values. Doing a step again with the same arguments changes nothing.
Heavy libraries load inside the steps, so that importing this package stays cheap.
"""

from bc_pipeline.steps.data import (
    ingest,
    ingest_one,
    land_demo,
    quarantine_file,
    snapshot,
    validate,
)
from bc_pipeline.steps.judgement import decide, evaluate
from bc_pipeline.steps.live import approve, mirror, promote, record, registry, rollback
from bc_pipeline.steps.model import candidates, export, select, train
from bc_pipeline.steps.reproduce import verify_repro
from bc_pipeline.steps.review import audit, verdict
from bc_pipeline.steps.run import Result, Run
from bc_pipeline.steps.scores import batch_score, newest_scores, score

__all__ = [
    "Result",
    "Run",
    "approve",
    "audit",
    "batch_score",
    "candidates",
    "decide",
    "evaluate",
    "export",
    "ingest",
    "ingest_one",
    "land_demo",
    "mirror",
    "newest_scores",
    "promote",
    "quarantine_file",
    "record",
    "registry",
    "rollback",
    "score",
    "select",
    "snapshot",
    "train",
    "validate",
    "verdict",
    "verify_repro",
]
