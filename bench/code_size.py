"""Count the package's lines of code, room by room, beside those of an earlier revision.

    python bench/code_size.py [--against REVISION] [--json] [--check]

A line counts where it holds code: blank lines, comments and docstrings do not count. The long
functions and files are listed, too, because they are what a reader has to take in at once.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "bc_pipeline"
FUNCTION_LINES = 50
FILE_LINES = 300
_NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def long_functions(source: str) -> Iterator[tuple[str, int]]:
    """Functions with more than `FUNCTION_LINES` lines of code, and how many they have."""
    lines = code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = len(lines & set(range(node.lineno, node.end_lineno + 1)))
            if count > FUNCTION_LINES:
                yield node.name, count


def sources(revision: str | None) -> dict[str, str]:
    """Text of every Python file of the package, by its path within the package."""
    if revision is None:
        folder = ROOT / PACKAGE
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.py")}
    listing = ("ls-tree", "-r", "--name-only", revision, f"{PACKAGE}/")
    paths = [path for path in _git(*listing).splitlines() if path.endswith(".py")]
    return {path.removeprefix(f"{PACKAGE}/"): _git("show", f"{revision}:{path}") for path in paths}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def rooms(files: dict[str, str]) -> Counter[str]:
    """Lines of code of each room: a folder of the package, or a file at its top."""
    counts: Counter[str] = Counter()
    for path, source in files.items():
        counts[path.partition("/")[0]] += len(code_lines(source))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", metavar="REVISION", help="an earlier commit or tag")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--check", action="store_true", help="fail where a function is too long")
    options = parser.parse_args()
    files = sources(None)
    now = rooms(files)
    before = rooms(sources(options.against)) if options.against else Counter[str]()
    functions = {
        f"{path}:{name}": count
        for path, source in files.items()
        for name, count in long_functions(source)
    }
    if options.check:
        sys.exit(f"Functions over {FUNCTION_LINES} lines: {functions}" if functions else 0)
    long_files = {
        path: source.count("\n")
        for path, source in files.items()
        if source.count("\n") > FILE_LINES
    }
    if options.json:
        report = {"now": now, "before": before, "functions": functions, "files": long_files}
        print(json.dumps(report, indent=1))
        return
    for room in sorted(now | before):
        print(f"{room:24} {now[room]:6} {before[room] or '':>6}")
    print(f"{'total':24} {now.total():6} {before.total() or '':>6}", end="")
    print(f"  {now.total() / before.total() - 1:+.1%}" if before else "")
    print(f"\nFunctions over {FUNCTION_LINES} lines of code: {functions or 'none'}")
    print(f"Files over {FILE_LINES} lines: {long_files or 'none'}")


if __name__ == "__main__":
    main()
