"""One function per workflow step, which Airflow's tasks and the commands call.

A step takes the settings, its `Run`, and ids that earlier steps returned; it returns a small
dict of JSON values. Repeating a step with the same arguments changes nothing. Heavy libraries
are imported inside the steps, and the steps where they are used first, so that importing this
package is fast: the command's completion does it at every press of a key.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bc_pipeline.steps.anchor_steps import anchor, set_anchor
    from bc_pipeline.steps.audit_steps import audit, audit_lines, audit_tip
    from bc_pipeline.steps.batch_steps import decide_batch, first_arrival, list_batches, show_batch
    from bc_pipeline.steps.challenger_steps import challengers, export
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
    from bc_pipeline.steps.model_steps import candidates, select, train
    from bc_pipeline.steps.news_steps import find_news
    from bc_pipeline.steps.outcome_steps import land_outcomes
    from bc_pipeline.steps.release_steps import (
        approve,
        mirror,
        needs_approval,
        promote,
        record,
        registry,
        rollback,
        verdict,
    )
    from bc_pipeline.steps.reproduce import verify_repro
    from bc_pipeline.steps.requirements import require_ready, require_signing
    from bc_pipeline.steps.score_steps import batch_score, newest_scores, score, validation_report
    from bc_pipeline.steps.version_steps import resolve_version, short_names
    from bc_pipeline.workspace import Result, Run

__all__ = [
    "Result",
    "Run",
    "anchor",
    "approve",
    "audit",
    "audit_lines",
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
    "find_news",
    "first_arrival",
    "ingest",
    "ingest_one",
    "land_demo",
    "land_outcomes",
    "list_batches",
    "mirror",
    "needs_approval",
    "newest_scores",
    "promote",
    "quarantine_file",
    "record",
    "registry",
    "require_ready",
    "require_signing",
    "resolve_version",
    "rollback",
    "score",
    "select",
    "set_anchor",
    "short_names",
    "show_batch",
    "snapshot",
    "train",
    "validate",
    "validation_report",
    "verdict",
    "verify_repro",
    "decide_batch",
]

_MODULES = {
    "bc_pipeline.steps.anchor_steps": (
        "anchor",
        "set_anchor",
    ),
    "bc_pipeline.steps.audit_steps": (
        "audit",
        "audit_lines",
        "audit_tip",
    ),
    "bc_pipeline.steps.batch_steps": (
        "decide_batch",
        "first_arrival",
        "list_batches",
        "show_batch",
    ),
    "bc_pipeline.steps.challenger_steps": (
        "challengers",
        "export",
    ),
    "bc_pipeline.steps.data_steps": (
        "ingest",
        "ingest_one",
        "land_demo",
        "quarantine_file",
        "snapshot",
        "validate",
    ),
    "bc_pipeline.steps.erase_steps": (
        "erase",
        "erasures",
    ),
    "bc_pipeline.steps.evaluation_steps": ("evaluate",),
    "bc_pipeline.steps.gate_steps": (
        "choose",
        "decide",
    ),
    "bc_pipeline.steps.model_steps": (
        "candidates",
        "select",
        "train",
    ),
    "bc_pipeline.steps.news_steps": ("find_news",),
    "bc_pipeline.steps.outcome_steps": ("land_outcomes",),
    "bc_pipeline.steps.release_steps": (
        "approve",
        "mirror",
        "needs_approval",
        "promote",
        "record",
        "registry",
        "rollback",
        "verdict",
    ),
    "bc_pipeline.steps.reproduce": ("verify_repro",),
    "bc_pipeline.steps.requirements": (
        "require_ready",
        "require_signing",
    ),
    "bc_pipeline.steps.score_steps": (
        "batch_score",
        "newest_scores",
        "score",
        "validation_report",
    ),
    "bc_pipeline.steps.version_steps": (
        "resolve_version",
        "short_names",
    ),
    "bc_pipeline.workspace": (
        "Result",
        "Run",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
