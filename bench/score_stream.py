"""Time and memory of batch scoring, start to finish, beside pandas and the parse alone.

One file is made from the public rows, resampled and jittered within the row rules, as CSV and as
Parquet. Each process then runs alone: `bc-pipeline score`, which checks suite, ids and signature;
pandas and joblib, which check nothing; and Arrow, which parses and throws away. Ratios within one
run hold on a busy machine, too. The scores are compared.

    python bench/score_stream.py [--rows 200000] [--ours-only]
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.csv
from pyarrow import parquet
from serving.volume import THRESHOLD, make_volume

from bc_pipeline.problems import get_problem
from bc_pipeline.tables.writer import TableWriter

WDBC = get_problem("wdbc")
NAMES = WDBC.schema.names
MODELS = ("logistic", "random_forest")
LAYOUTS = ("csv", "parquet")
FEW_ROWS = 25
GENERATED_ROWS = 50_000
SEED = 20240229
SAMPLE_SECONDS = 0.01
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# The shortest script that scores; the threshold is that of the volume's model.
PANDAS = """
import sys
import joblib
import numpy as np
import pandas as pd
source, target, model, threshold = sys.argv[1:]
estimator = joblib.load(model)
csv = source.endswith(".csv")
frame = pd.read_csv(source) if csv else pd.read_parquet(source)
probability = estimator.predict_proba(frame[list(estimator.feature_names_in_)])[:, 1]
called = probability > float(threshold)
scores = pd.DataFrame(
    {
        "id": frame["id"],
        "prediction": np.where(called, 0, 1),
        "label": np.where(called, "malignant", "benign"),
        "probability": np.where(called, probability, 1 - probability),
        "probability_malignant": probability,
        "model_version": "v",
    }
)
scores.to_csv(target, index=False) if csv else scores.to_parquet(target, index=False)
"""
PARSE = """
import sys
import pyarrow.csv
from pyarrow import parquet
source = sys.argv[1]
if source.endswith(".csv"):
    options = pyarrow.csv.ReadOptions(use_threads=False, block_size=1 << 21)
    blocks = pyarrow.csv.open_csv(source, read_options=options)
else:
    blocks = parquet.ParquetFile(source).iter_batches(use_threads=False)
sum(block.num_rows for block in blocks)
"""


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


def write_parquet(source: Path) -> None:
    """The rows of a CSV file as Parquet, in row groups of a million rows."""
    with pyarrow.csv.open_csv(source) as blocks:
        path = source.with_suffix(".parquet")
        with parquet.ParquetWriter(path, blocks.schema) as writer:
            pending: list[pyarrow.RecordBatch] = []
            for block in blocks:
                pending.append(block)
                if sum(each.num_rows for each in pending) >= 1 << 20:
                    writer.write_table(pyarrow.Table.from_batches(pending))
                    pending = []
            if pending:
                writer.write_table(pyarrow.Table.from_batches(pending))


@dataclass(frozen=True)
class Cost:
    """Of a process, start to finish; `peak` in MB."""

    wall: float
    cpu: float
    peak: float


def measure(command: list[str], environment: dict[str, str]) -> Cost:
    """Run a command alone."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment | ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        # Not the maximum of `usage`: it survives exec, so it would be this process's.
        known = Path(f"/proc/{process.pid}/status").read_text()
        if "VmHWM:" in known:
            peak = max(peak, int(known.split("VmHWM:")[1].split()[0]))
        time.sleep(SAMPLE_SECONDS)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {process.stderr.read().decode()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak / 1024)


def differences(ours: Path, theirs: Path) -> float:
    """Largest difference of the probabilities of two CSV files; the calls must be the same."""
    worst = 0.0
    with ours.open(newline="") as left, theirs.open(newline="") as right:
        for a, b in zip(csv.DictReader(left), csv.DictReader(right), strict=True):
            assert (a["id"], a["prediction"]) == (b["id"], b["prediction"])
            name = "probability_malignant"
            worst = max(worst, abs(float(a[name]) - float(b[name])))
    return worst


class Comparison:
    """Prints costs as they come, each beside that of pandas on the same file and model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._volumes = {name: make_volume(folder / name, name) for name in MODELS}
        _print_row("start to finish", "rows", "file", "wall s", "CPU s", "MB", "x wall", "x CPU")

    def run(self, source: Path, rows: int, *, ours_only: bool) -> None:
        for model, volume in self._volumes.items():
            target = self._folder / f"ours{source.suffix}"
            bc_pipeline = str(Path(sys.executable).with_name("bc-pipeline"))
            score = [bc_pipeline, "score", str(source), str(target), "--force", "--json"]
            others = target.with_stem("pandas")
            pandas = None
            if not ours_only:
                estimator = [str(others), str(volume.estimator), str(THRESHOLD)]
                pandas = measure(
                    [sys.executable, "-c", PANDAS, str(source), *estimator], dict(os.environ)
                )
                self._add("pandas, joblib, no checks", model, rows, source, pandas, pandas)
            ours = measure(score, volume.environment)
            self._add("bc-pipeline score", model, rows, source, ours, pandas)
            if pandas and source.suffix == ".csv":
                worst = differences(target, others)
                assert worst < 1e-12, f"probabilities differ by {worst}"
        if not ours_only:
            parse = measure([sys.executable, "-c", PARSE, str(source)], dict(os.environ))
            self._add("Arrow, parse alone", "", rows, source, parse, None)

    def _add(
        self, what: str, model: str, rows: int, source: Path, cost: Cost, base: Cost | None
    ) -> None:
        _print_row(
            f"{what} {model}",
            f"{rows:,}",
            source.suffix[1:],
            f"{cost.wall:.2f}",
            f"{cost.cpu:.2f}",
            f"{cost.peak:.0f}",
            f"{base.wall / cost.wall:.2f}" if base else "",
            f"{base.cpu / cost.cpu:.2f}" if base else "",
        )


def _print_row(what: str, *cells: str) -> None:
    print(f"{what:40}", *(f"{cell:>9}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--ours-only", action="store_true", help="for files beyond pandas' reach")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        comparison = Comparison(folder)
        for rows in (FEW_ROWS, arguments.rows):
            source = folder / "in.csv"
            write_input(source, rows)
            write_parquet(source)
            for layout in LAYOUTS if rows != FEW_ROWS else ("csv",):
                comparison.run(
                    source.with_suffix(f".{layout}"), rows, ours_only=arguments.ours_only
                )


if __name__ == "__main__":
    main()
