"""From the prediction log's outcomes to landed rows."""

from __future__ import annotations

from datetime import timedelta

from bc_pipeline.clock import parse_time
from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Result, Run, open_first_workspace


def land_outcomes(settings: Settings, run: Run, *, again: bool = False) -> Result:
    """Land the predictions whose outcome had been recorded by the run's as-of time.

    Parameters
    ----------
    again : bool
        Whether to land those of withdrawn batches too.

    Raises
    ------
    ConfigError
        Where the prediction log is of another problem.
    RecordsAway, DecryptionFailed
    """
    from bc_pipeline.data.outcome_rows import land_known_outcomes
    from bc_pipeline.prediction_log.known_outcomes import read_known_outcomes

    workspace = open_first_workspace(settings, run.problem)
    if run.problem != settings.service_problem:
        raise ConfigError(
            f"The prediction log is of {settings.service_problem}, and not of {run.problem}.",
            "Name that problem, or land the outcomes' rows as a file.",
            setting="BC_SERVICE_PROBLEM",
        )
    problem = workspace.problem
    # The as-of time is in whole seconds.
    end = parse_time(run.as_of) + timedelta(seconds=1)
    outcomes = read_known_outcomes(settings, len(problem.schema.names), end)
    landed = land_known_outcomes(problem, workspace.store, outcomes, again=again)
    return {
        "outcomes": len(outcomes.ids),
        "landed": landed.rows,
        "known": landed.known,
        "without_features": outcomes.without_features,
        "files": [path.name for path in landed.files],
    }
