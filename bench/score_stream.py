"""Rows per CPU second and peak memory of batch scoring, beside what pandas would take.

One file is made from the public rows, resampled and jittered within the row rules. Each
method of scoring it then runs alone in a fresh process; imports and loading the model are not
counted. All start from the same fitted logistic regression, and their answers are compared.

    python bench/score_stream.py [--rows 200000] [--ours-only]
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from bc_pipeline.problems import get_problem
from bc_pipeline.tables.writer import TableWriter

WDBC = get_problem("wdbc")
NAMES = WDBC.schema.names
VERSION = "bench"
THRESHOLD = 0.5
GENERATED_ROWS = 50_000
CHUNK_ROWS = 10_000
SEED = 20240229


def jittered(rows: int) -> Iterator[np.ndarray]:
    """Resampled public rows, each measure of a row moved by up to 3 % as a whole."""
    rng = np.random.default_rng(SEED)
    reference = WDBC.load_reference().values
    while rows:
        values = reference[rng.integers(0, len(reference), GENERATED_ROWS)]
        # A length has one factor and an area its square, so that the geometry stays consistent.
        factors = {name: rng.uniform(0.97, 1.03, len(values)) for name in sorted(NAMES)}
        for index, name in enumerate(NAMES):
            measure = name.removeprefix("mean_").removeprefix("worst_").removesuffix("_error")
            shared = "radius" if measure in {"radius", "perimeter", "area"} else measure
            values[:, index] *= factors[f"mean_{shared}"] ** (2 if measure == "area" else 1)
        with np.errstate(divide="ignore"):
            digits = 5 - np.floor(np.log10(np.where(values > 0, values, 1.0)))
        values = np.round(values * 10**digits) / 10**digits
        sound = np.ones(len(values), dtype=bool)
        sound[list(WDBC.schema.row_defects(values))] = False
        values = values[sound][:rows]
        rows -= len(values)
        yield values


def write_input(path: Path, rows: int) -> None:
    done = 0
    with TableWriter(path, {"id": "text"} | dict.fromkeys(NAMES, "number"), "csv") as writer:
        for values in jittered(rows):
            ids = [f"p{row}" for row in range(done, done + len(values))]
            writer.write({"id": ids} | dict(zip(NAMES, values.T, strict=True)))
            done += len(values)


def write_model(folder: Path) -> None:
    import joblib

    from bc_pipeline.artifacts.export import export_onnx

    reference = WDBC.load_reference()
    candidate = WDBC.candidate("logistic")
    estimator = candidate.build(candidate.params, SEED)
    estimator.fit(reference.values, WDBC.labels.to_positive(reference.codes))
    (folder / "model.onnx").write_bytes(export_onnx(estimator, len(NAMES)))
    joblib.dump(estimator, folder / "model.joblib")


def ours(folder: Path) -> Callable[[], None]:
    # score_file imports these when it runs; pandas is imported outside its measure too.
    for name in ("compute", "csv", "parquet"):
        importlib.import_module(f"pyarrow.{name}")

    from bc_pipeline.artifacts.manifest import DecisionRule
    from bc_pipeline.artifacts.predictors import Predictor, make_session
    from bc_pipeline.scoring.table_scoring import score_file

    reference = WDBC.load_reference().values
    manifest: Any = SimpleNamespace(
        version=VERSION,
        feature_schema=WDBC.schema,
        label_set=WDBC.labels,
        training_range=dict(
            zip(NAMES, zip(reference.min(axis=0), reference.max(axis=0), strict=True), strict=True)
        ),
        decision_rule=DecisionRule(VERSION, VERSION, THRESHOLD, WDBC.labels),
    )
    predictor = Predictor(manifest, make_session((folder / "model.onnx").read_bytes()))

    def run() -> None:
        score_file(predictor, folder / "in.csv", folder / "ours.csv")

    return run


def scored(estimator: Any, frame: Any) -> Any:
    import pandas as pd

    probability = estimator.predict_proba(frame[list(NAMES)].to_numpy())[:, 1]
    called = probability > THRESHOLD
    return pd.DataFrame(
        {
            "id": frame["id"],
            "prediction": np.where(called, 0, 1),
            "label": np.where(called, "malignant", "benign"),
            "probability": np.where(called, probability, 1 - probability),
            "probability_malignant": probability,
            "model_version": VERSION,
        }
    )


def whole_frame(folder: Path) -> Callable[[], None]:
    import joblib
    import pandas as pd

    estimator = joblib.load(folder / "model.joblib")

    def run() -> None:
        frame = pd.read_csv(folder / "in.csv", float_precision="round_trip")
        scored(estimator, frame).to_csv(folder / "whole_frame.csv", index=False)

    return run


def frame_by_frame(folder: Path) -> Callable[[], None]:
    import joblib
    import pandas as pd

    estimator = joblib.load(folder / "model.joblib")

    def run() -> None:
        parts = pd.read_csv(folder / "in.csv", float_precision="round_trip", chunksize=CHUNK_ROWS)
        for number, frame in enumerate(parts):
            scored(estimator, frame).to_csv(
                folder / "frame_by_frame.csv",
                index=False,
                header=number == 0,
                mode="w" if number == 0 else "a",
            )

    return run


METHODS = {
    "ours": ("score_file: strict stream, ONNX Runtime", ours),
    "whole_frame": ("pandas, whole file, predict_proba", whole_frame),
    "frame_by_frame": (f"pandas, {CHUNK_ROWS} rows at a time, predict_proba", frame_by_frame),
}


def peak_megabytes() -> float:
    # Not getrusage: its maximum survives exec, so it would be the parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(method: str, folder: Path) -> None:
    """In the child: run one method and print its cost."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    run = METHODS[method][1](folder)
    before = peak_megabytes()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    print(
        json.dumps(
            {
                "cpu": time.process_time() - cpu,
                "wall": time.perf_counter() - wall,
                "loaded": before,
                "peak": peak_megabytes(),
            }
        )
    )


def differences(folder: Path, first: str, second: str) -> tuple[float, int]:
    """Largest difference of the probabilities, and how many calls differ."""
    worst, flips = 0.0, 0
    with (
        (folder / f"{first}.csv").open(newline="") as left,
        (folder / f"{second}.csv").open(newline="") as right,
    ):
        for a, b in zip(csv.DictReader(left), csv.DictReader(right), strict=True):
            assert a["id"] == b["id"], "the rows are not the same"
            name = "probability_malignant"
            worst = max(worst, abs(float(a[name]) - float(b[name])))
            flips += a["prediction"] != b["prediction"]
    return worst, flips


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--ours-only", action="store_true", help="for files beyond pandas' reach")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    methods = ["ours"] if arguments.ours_only else list(METHODS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        write_input(folder / "in.csv", arguments.rows)
        size = (folder / "in.csv").stat().st_size / 1e6
        table = Table(title=f"{arguments.rows} rows, {size:.0f} MB of CSV")
        for column in ("", "CPU s", "wall s", "rows per CPU s", "ratio", "peak MB", "worst |dp|"):
            table.add_column(column, justify="left" if not column else "right")
        base = 0.0
        for method in methods:
            child = [sys.executable, __file__, "--measure", method, str(folder)]
            took = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout)
            rate = arguments.rows / took["cpu"]
            base = base or rate
            worst, flips = (0.0, 0) if method == "ours" else differences(folder, "ours", method)
            assert flips == 0, f"{flips} calls differ"
            table.add_row(
                METHODS[method][0],
                f"{took['cpu']:.2f}",
                f"{took['wall']:.2f}",
                f"{rate:,.0f}",
                f"{rate / base:.2f}",
                f"{took['peak']:.0f} ({took['loaded']:.0f} at start)",
                f"{worst:.1e}",
            )
        Console(width=140).print(table)


if __name__ == "__main__":
    main()
