"""Documentation on the pages of the DAGs."""

from __future__ import annotations

from bc_pipeline.conclusion import Conclusion
from bc_pipeline.problems.base import Problem

_CONCLUSIONS = (
    Conclusion.PROMOTED,
    Conclusion.AWAITING_APPROVAL,
    Conclusion.GATE_FAILED,
    Conclusion.TIE,
    Conclusion.NOTHING_NEW,
    Conclusion.VERDICT_ONLY,
    Conclusion.TOO_FEW_ROWS,
    Conclusion.DATA_UNFIT,
    Conclusion.FAILED,
)

_RETRAIN = """
### {title}: train, judge and, if better founded, release a model

Each Sunday at 00:00 UTC, for the week that ends then, this DAG ingests the landed files, freezes
the rows that had arrived by then as a **dataset**, fits {candidates} candidates
on its train rows, chooses one by cross-validation, and compares it with the **champion** on the
same held-out rows. Where the champion's recipe is another one, it is fitted again as a second
**challenger**. The **gate** writes a verdict on each. The chosen candidate wins if it passed, else
the champion's recipe if that passed; only the winner is promoted, and the service and batch scoring
pick it up within seconds.

| You want to | Do this |
|---|---|
| train on what has arrived up to now | **Trigger**; leave the form, logical date included |
| train although nothing is new | **Trigger** with `train_anyway` |
| train as of a date | **Trigger** with `as_of`: only rows that had arrived by then are used |
| let a person decide | **Trigger** with `require_approval`; another user decides |
| train on verified predictions too | **Trigger** with `land_outcomes` |
| train for past weeks | `bc-pipeline backfill --from 2026-01-04 --to 2026-03-01`: verdicts only |
| go back to the model before | `bc-pipeline rollback --reason TEXT` |
| see what is live, and since when | the tab **Models** on this page, or `bc-pipeline registry` |

**How a run ended** is in its note, by name: {conclusions}.

**The verdicts** of a run are on its tab **Gate verdict**; the winner's is the result of the task
*Choose the winner*. Each is also in `models/{name}/versions/VERSION/verdict.json` on the shared
volume, and by `bc-pipeline verdict VERSION`.
**A rejection is not a failure**: the run succeeds, *Promote* is skipped, the champion goes on
answering. The reasons name the checks that failed; look at the figures before you change a policy.

Where an approval is required, by the run or the problem's policy, the run ends as
`awaiting_approval`, and the DAG `{name}_approval` asks; later retrains do not wait for it. A
`queued` run waits for the run of this DAG that is running, or for the DAG to be unpaused.

A **backfilled** run trains, evaluates and writes its verdict; it moves the champion only with the
Param `promote_backfill`.

**A failed task** is tried again only where that can help (a service did not answer, a lock was
held). Bad data, a broken suite or a model that differs after export fail at once, and the log
names every defect. Correct the cause, then **Clear** the failed task: every step may run twice.

For research use; not a medical device.
"""

_BATCH_SCORE = """
### {title}: score the worklist with the champion

Every day, and as soon as there is another champion, the files without labels in
`data/{name}/worklist` on the shared volume are checked and scored. The predictions are in
`scores/{name}/` with the model version in each row; rejected rows are listed beside them
with the reasons.

| You want to | Do this |
|---|---|
| score now | **Trigger**; leave the form as it is |
| score one file | **Trigger** with `source`, a path on the machine that runs the tasks |
| score a folder, a pattern or a URL | **Trigger** with `source` |
| score on a Spark cluster, or not | **Trigger** with `engine`; `auto` goes by the size |
| score without Airflow | `bc-pipeline score IN OUT`, or `bc-pipeline batch-score SOURCE` |

The same input, interval and version are scored once: running again changes nothing.
**How a run ended** is in its note, by name: `scored`, `file_refused`, or, where *Score* is
**skipped**, `no_champion` or `nothing_to_score`.

For research use; not a medical device.
"""


_APPROVAL = """
### {title}: a person decides about a model that passed its gate

A run of `{name}_retrain` that requires an approval starts a run here, which asks under *Required
Actions*: with the figures and their intervals, what differs from the champion, every check, and
links. The answer is valid for the manifest whose digest it shows, and for no other.

| You want to | Do this |
|---|---|
| decide | *Required Actions* on the run: **Approve** or **Reject**, with a reason |
| ask again, after nobody answered | **Trigger** with `version` |
| decide without Airflow | `bc-pipeline approve VERSION --reason TEXT` |
| see what waits | `bc-pipeline registry`: the alias *staging* |

Whoever started the retrain cannot approve its model, where Airflow tells users apart; otherwise the
question and the audit log say why not. A later model that passes its gate, or another champion,
ends a waiting run as `superseded`; no answer in three days ends it as `approval_expired`. Both keep
the champion, and the run's note has the name: `promoted`, `approval_refused`, `approval_expired`,
`superseded`.

For research use; not a medical device.
"""


def retrain_guide(problem: Problem) -> str:
    return _RETRAIN.format(
        title=problem.title,
        name=problem.name,
        candidates=len(problem.candidates),
        conclusions=", ".join(f"`{name}`" for name in _CONCLUSIONS),
    )


def approval_guide(problem: Problem) -> str:
    return _APPROVAL.format(title=problem.title, name=problem.name)


def batch_score_guide(problem: Problem) -> str:
    return _BATCH_SCORE.format(title=problem.title, name=problem.name)
