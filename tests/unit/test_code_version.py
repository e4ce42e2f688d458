from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import bc_pipeline


def version_of(package: Path) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from bc_pipeline.code_version import code_version; print(code_version())",
        ],
        cwd=package.parent,
        env={"PYTHONPATH": str(package.parent), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_same_sources_give_the_same_version_and_others_another(tmp_path: Path) -> None:
    package = tmp_path / "bc_pipeline"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(bc_pipeline.__file__).parent, package, ignore=ignore)
    before = version_of(package)
    assert before == version_of(Path(bc_pipeline.__file__).parent)
    assert before.startswith(f"{bc_pipeline.__version__}+")
    source = package / "clock.py"
    source.write_text(source.read_text() + "\n")
    assert version_of(package) != before
