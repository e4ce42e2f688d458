"""The share of mutants that tests noticed, file by file; `make mutants` prints it at its end.

Exit code 1 where a group of files is below its bound.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

MUTANTS = Path(__file__).parents[1] / "mutants"
BOUND = 0.85
SURVIVED, NO_TEST = 0, 33


def main() -> int:
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted(MUTANTS.rglob("*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"].values()
        checked = [code for code in codes if code is not None]
        if not checked:
            continue
        name = path.relative_to(MUTANTS).as_posix().removesuffix(".meta")
        # A mutant that ends the process, or never ends, is noticed as well.
        killed = sum(code not in (SURVIVED, NO_TEST) for code in checked)
        print(f"{killed:5} of {len(checked):5}  {killed / len(checked):4.0%}  {name}")
        groups[name.rpartition("/")[0]].update(killed=killed, checked=len(checked))
    for group, counts in groups.items():
        share = counts["killed"] / counts["checked"]
        print(f"{counts['killed']:5} of {counts['checked']:5}  {share:4.0%}  {group} (all)")
    return int(any(group["killed"] < BOUND * group["checked"] for group in groups.values()))


if __name__ == "__main__":
    sys.exit(main())
