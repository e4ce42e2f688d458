"""The server in a process of its own, as an operator starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server_process(
    log: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server on a free port, and the port; it ends with the block.

    Parameters
    ----------
    log : Path
        File for what the server logs.
    environment : mapping of str to str, optional
        The whole environment; None: that of this process.
    """
    command = [sys.executable, "-m", "bc_pipeline.server", "--port", "0", "--until-eof", *options]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=environment,
        )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            yield process, json.loads(line)["port"]
        finally:
            process.terminate()
