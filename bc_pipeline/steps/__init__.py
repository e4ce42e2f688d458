"""One function per workflow step, which Airflow's tasks and the commands call.

A step takes the settings, its `Run`, and ids that earlier steps returned; it returns a small
dict of JSON values. Repeating a step with the same arguments changes nothing. Heavy libraries
are imported inside the steps, so that importing this package is fast.
"""

from bc_pipeline.steps.anchor_steps import anchor, set_anchor
from bc_pipeline.steps.batch_steps import decide_batch, first_arrival, list_batches, show_batch
from bc_pipeline.steps.data_steps import (
    ingest,
    ingest_one,
    land_demo,
    quarantine_file,
    snapshot,
    validate,
)
from bc_pipeline.steps.erase_steps import erase, erasures
from bc_pipeline.steps.evaluation_steps import evaluate
from bc_pipeline.steps.gate_steps import choose, decide
from bc_pipeline.steps.model_steps import candidates, challengers, export, select, train
from bc_pipeline.steps.outcome_steps import land_outcomes
from bc_pipeline.steps.release_steps import (
    approve,
    audit,
    audit_tip,
    mirror,
    promote,
    record,
    registry,
    rollback,
    verdict,
)
from bc_pipeline.steps.reproduce import verify_repro
from bc_pipeline.steps.score_steps import batch_score, newest_scores, score
from bc_pipeline.workspace import Result, Run

__all__ = [
    "Result",
    "Run",
    "anchor",
    "approve",
    "audit",
    "audit_tip",
    "batch_score",
    "candidates",
    "challengers",
    "choose",
    "decide",
    "erase",
    "erasures",
    "evaluate",
    "export",
    "first_arrival",
    "ingest",
    "ingest_one",
    "land_demo",
    "land_outcomes",
    "list_batches",
    "mirror",
    "newest_scores",
    "promote",
    "quarantine_file",
    "record",
    "registry",
    "rollback",
    "score",
    "select",
    "set_anchor",
    "show_batch",
    "snapshot",
    "train",
    "validate",
    "verdict",
    "verify_repro",
    "decide_batch",
]
