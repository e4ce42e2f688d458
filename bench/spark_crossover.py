"""Rows per CPU second of batch scoring on one machine and on Spark, and where Spark pays.

Both score the same files with the same champion and the scoring suite, as the DAG's task does:
this machine with one process, Spark with a driver and two executor threads in processes of its
own. Two sizes give what each costs to start and per row. Time is CPU time of every process, so
that neighbours do not matter much; what more cores would bring is computed, not measured: what
Spark costs to start counts as if nothing of it ran side by side.

    python bench/spark_crossover.py [--rows 100000 800000] [--quick]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

FILES = 4
CORES = (2, 4, 8, 16, 64)
SAMPLE_SECONDS = 0.05
SCORE = """
import sys
from bc_pipeline import steps
from bc_pipeline.settings import load_settings
run = steps.Run("wdbc", "bench", sys.argv[3])
print(steps.batch_score(load_settings(), run, sys.argv[1], sys.argv[2]))
"""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of an engine, to start and per row."""

    start: float
    row: float

    @classmethod
    def of(cls, measured: dict[int, float]) -> Cost:
        (few, first), (many, second) = sorted(measured.items())
        row = (second - first) / (many - few)
        return cls(first - few * row, row)


def write_files(folder: Path, rows: int) -> None:
    import score_stream

    folder.mkdir()
    for number in range(FILES):
        score_stream.write_input(folder / f"{number}.csv", rows // FILES)


def cpu_seconds(session: int, seen: dict[int, float]) -> None:
    """Add the CPU time so far of each process of a session."""
    tick = os.sysconf("SC_CLK_TCK")
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session:
            seen[int(path.parent.name)] = (int(words[11]) + int(words[12])) / tick


def measured(home: Path, source: Path, engine: str, as_of: str) -> tuple[float, float]:
    """CPU and wall seconds of a batch."""
    environment = os.environ | {
        "BC_HOME": str(home),
        "BC_SPARK_MASTER": "local[2]",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SCORE, str(source), engine, as_of],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        seen: dict[int, float] = {}
        while process.poll() is None:
            cpu_seconds(process.pid, seen)
            time.sleep(SAMPLE_SECONDS)
        wall = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            raise SystemExit(log.read().decode())
    return sum(seen.values()), wall


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    from tests.e2e.volume import make_releases

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 800_000])
    parser.add_argument("--quick", action="store_true", help="20,000 and 400,000 rows")
    arguments = parser.parse_args()
    sizes = [20_000, 400_000] if arguments.quick else arguments.rows
    table = Table(title="Batch scoring with the suite")
    for column in ("engine", "rows", "MB", "CPU s", "wall s", "rows per CPU s"):
        table.add_column(column, justify="right")
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        make_releases(home, 1)
        for rows in sizes:
            write_files(Path(name) / str(rows), rows)
        for engine in ("local", "spark"):
            measured = {}
            for day, rows in enumerate(sizes, start=1):
                source = Path(name) / str(rows)
                as_of = f"20{35 + (engine == 'spark')}-01-{day:02d}T00:00:00Z"
                cpu, wall = measured(home, source, engine, as_of)
                measured[rows] = cpu
                size = sum(path.stat().st_size for path in source.iterdir()) / 1e6
                table.add_row(
                    engine,
                    f"{rows:,}",
                    f"{size:.0f}",
                    f"{cpu:.1f}",
                    f"{wall:.1f}",
                    f"{rows / cpu:,.0f}",
                )
            costs[engine] = Cost.of(measured)
            byte_rate = size * 1e6 / rows
    console = Console(width=120)
    console.print(table)
    here, there = costs["local"], costs["spark"]
    for engine, cost in costs.items():
        console.print(
            f"{engine}: {cost.start:.1f} CPU s to start, then {1 / cost.row:,.0f} rows per CPU s"
        )
    if min(here.row, there.row) <= 0:
        console.print("The sizes are too close to measure the cost of a row: use larger --rows.")
        return
    for cores in CORES:
        gain = here.row - there.row / cores
        if gain <= 0:
            console.print(f"{cores} cores: never")
            continue
        rows = max(0.0, (there.start - here.start) / gain)
        size = rows * byte_rate / 1e6
        console.print(f"{cores} cores: Spark is sooner from {rows:,.0f} rows ({size:,.0f} MB)")


if __name__ == "__main__":
    main()
