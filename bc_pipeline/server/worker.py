"""``python -m bc_pipeline.server.worker``: one of the launcher's workers.

It answers requests on a socket that it inherits. Standard output is a pipe, on which it reports
to the launcher that it listens, or why it cannot start: one line of JSON. Standard input is
a pipe too; its end means that the launcher is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys

from bc_pipeline.errors import PipelineError
from bc_pipeline.server import metrics_folder
from bc_pipeline.server.application import load_factory
from bc_pipeline.server.import_blocker import block_import

EXIT_REFUSED = 2
# Optional dependencies that libraries import where they are installed: pandas by pyarrow (50 MB),
# rich by structlog (4 MB, for tracebacks), watchfiles by uvicorn (1 MB, for reloading code).
_BLOCKED = ("pandas", "rich", "watchfiles")


def main(arguments: list[str] | None = None) -> int:
    """Run until the launcher stops it; 2 where the settings prevent it from starting."""
    options = _parser().parse_args(arguments)
    for name in _BLOCKED:
        block_import(name)
    from bc_pipeline.server.acceptor import ConnectionCounts
    from bc_pipeline.server.logs import configure_logs
    from bc_pipeline.server.server import Server
    from bc_pipeline.settings import load_settings

    # Ctrl-C reaches every process of a terminal; the launcher handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=options.socket)
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        create_app = load_factory(options.application)
        app = create_app(settings, worker=f"worker-{options.number}")
        counts = (
            ConnectionCounts(options.connection_counts, options.number - 1, options.workers)
            if options.workers > 1
            else None
        )
        server = Server(
            app, settings, lambda: _report(event="listening"), launched=True, counts=counts
        )
    except PipelineError as error:
        listener.close()
        _report(event="refused", message=str(error))
        return EXIT_REFUSED
    server.run_on(listener, until_eof=True)
    # Standard input ended, not by a signal: the launcher is gone and cannot remove its folder.
    metrics_folder.remove_folder()
    return 0


def _report(**fields: str) -> None:
    try:
        os.write(1, (json.dumps(fields) + "\n").encode())
    except BrokenPipeError:
        # The launcher is gone; the end of standard input stops the worker.
        return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bc_pipeline.server.worker")
    parser.add_argument("--application", required=True, help="factory, as module:function")
    parser.add_argument("--socket", type=int, required=True, help="descriptor to listen on")
    parser.add_argument("--number", type=int, required=True, help="number of the worker, from 1")
    parser.add_argument("--workers", type=int, required=True, help="number of all workers")
    parser.add_argument(
        "--connection-counts",
        type=int,
        required=True,
        help="descriptor of the memory with each worker's number of connections",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
