"""Whether the batches on the volume agree with the clock and with the audit log."""

from __future__ import annotations

from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import time_defect
from bc_pipeline.data.batch_history import (
    HISTORY_REMEDY,
    batch_state,
    read_history,
    recorded_decisions,
)
from bc_pipeline.data.batches import list_batches
from bc_pipeline.errors import ArtifactCorrupt, counted


def check_batches(store: Store) -> str:
    """Count the batches, withdrawn and held ones, and require that nothing is wrong with them.

    Raises
    ------
    ArtifactCorrupt
        Naming every batch of an implausible time, and every one whose state is not the one that
        the audit log ends with.
    AuditBroken
    """
    recorded = {batch: each[-1] for batch, each in recorded_decisions(store).items()}
    batches = list_batches(store)
    withdrawn, held, wrong, remedies = 0, 0, [], []
    for batch in batches:
        name = batch.batch
        now = batch_state(batch, read_history(store, name))
        state = None if now in ("counts", "not checked") else now
        withdrawn += state == "withdrawn"
        held += state == "held"
        defect = time_defect(batch.arrival)
        if defect and state is None:
            wrong.append(f"the time of batch {name}, {batch.arrived_at}, {defect}")
            remedies.append(
                f"Withdraw it: `bc-pipeline batch withdraw {name} --reason TEXT`; its rows count "
                "from `bc-pipeline batch restore` on."
            )
        if recorded.get(name) != state:
            wrong.append(
                f"batch {name} is {state or 'not withdrawn'}, and the audit log says "
                f"{recorded.get(name) or 'nothing of it'}"
            )
            remedies.append(HISTORY_REMEDY)
    if wrong:
        raise ArtifactCorrupt(
            f"{'; '.join(wrong)}.", " ".join(dict.fromkeys(remedies)), path=str(store.batches)
        )
    return f"{counted(len(batches), 'batch', 'batches')}, {withdrawn} of them withdrawn" + (
        f", {held} held: `bc-pipeline batch list`" if held else ""
    )
