"""How does a version do on labelled rows of another source?

Reads a labelled file as `bc-pipeline ingest` does, leaves out the rows that a dataset on the volume
has (they may have trained the version), and scores the rest. Nothing is stored.

    python bench/external.py FILE [--version VERSION] [--problem wdbc]

BC_HOME names the volume, as for the commands.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.predictors import load_predictor
from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.snapshot import load_dataset
from bc_pipeline.data.split import SplitSide
from bc_pipeline.errors import PipelineError
from bc_pipeline.evaluation.scores import score_rows
from bc_pipeline.settings import load_settings
from bc_pipeline.tables.reader import open_table
from bc_pipeline.workspace import Workspace, open_workspace


def seen_keys(workspace: Workspace) -> set[str]:
    """Keys of the rows of every dataset on the volume."""
    store = workspace.store
    return {
        key
        for path in store.datasets.glob("*.json")
        for key in load_dataset(workspace.problem, store, path.stem).keys
    }


def read_labelled(workspace: Workspace, path: Path) -> SplitSide:
    """The valid rows of a labelled file, each of them once."""
    problem, values, codes = workspace.problem, [], []
    with open_table(path, problem.schema, problem.labels) as reader:
        for block in reader:
            valid = [row for row in range(len(block.values)) if row not in block.defects]
            values.append(block.values[valid])
            codes.append(block.codes[valid])
    rows, labels = np.concatenate(values), problem.labels.to_positive(np.concatenate(codes))
    keys = row_keys(rows)
    first = [keys.index(key) for key in dict.fromkeys(keys)]
    return SplitSide(tuple(keys[row] for row in first), rows[first], labels[first])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--version", help="default: the champion")
    parser.add_argument("--problem", default="wdbc")
    options = parser.parse_args()
    settings = load_settings()
    workspace = open_workspace(settings, options.problem)
    try:
        files = (
            versions.open_stored(
                workspace.store, options.version, settings.verify_key, settings.artifact_cipher()
            )
            if options.version
            else workspace.open_champion()
        )
        rows, seen = read_labelled(workspace, options.file), seen_keys(workspace)
    except PipelineError as error:
        raise SystemExit(str(error)) from None
    new = rows.take(np.array([i for i, key in enumerate(rows.keys) if key not in seen], dtype=int))
    print(f"{len(rows)} valid rows, {len(rows) - len(new)} of them in a dataset: left out.")
    if not len(new):
        raise SystemExit("No row is left that no training has seen.")
    model = load_predictor(files, settings.threads)
    score = score_rows(
        workspace.problem, new, model.positive(new.values), model.manifest.threshold, ()
    )
    counts = score.confusion
    table = Table(
        title=f"{model.manifest.version} on {len(new)} rows, {int(new.positive.sum())} positive"
    )
    for heading in ("metric", "value", "95 % interval"):
        table.add_column(heading)
    for name, value in score.metrics.items():
        interval = score.intervals.get(name)
        known = interval is not None and interval.low is not None and interval.high is not None
        table.add_row(
            name,
            "-" if value is None else f"{value:.4f}",
            f"{interval.low:.4f} to {interval.high:.4f}" if known else "-",
        )
    Console(width=100).print(table)
    print(
        f"{counts.false_negative} positive rows were missed, {counts.false_positive} false alarms."
    )
    if score.recalibration:
        print(f"Calibration slope {score.recalibration.slope:.2f}.")


if __name__ == "__main__":
    main()
