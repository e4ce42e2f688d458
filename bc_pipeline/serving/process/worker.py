"""``python -m bc_pipeline.serving.process.worker``: one of the launcher's workers.

It answers requests on a socket that it inherits, and tells the launcher over standard output,
which is a pipe, that it does, or why it cannot: one JSON line. Standard input is a pipe too;
its end means that the launcher is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys

from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.process.withheld import withhold

EXIT_REFUSED = 2
# Where it is installed, others load it unasked: pyarrow takes fifty megabytes of pandas,
# structlog four of what draws pretty tracebacks, uvicorn one of what reloads changed code.
_UNWANTED = ("pandas", "rich", "watchfiles")


def main(arguments: list[str] | None = None) -> int:
    """Run until the launcher says so; 2 where the settings do not let the service start."""
    options = _parser().parse_args(arguments)
    for name in _UNWANTED:
        withhold(name)
    from bc_pipeline.serving.app import create_app
    from bc_pipeline.serving.process.acceptor import Shares
    from bc_pipeline.serving.process.logs import configure_logs
    from bc_pipeline.serving.process.server import Server
    from bc_pipeline.serving.telemetry.metrics import FOLDER_VARIABLE
    from bc_pipeline.settings import load_settings

    # Until the server takes signals, a Ctrl-C is the launcher's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=options.socket)
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        app = create_app(settings, worker=f"worker-{options.number}")
        shares = (
            Shares(options.shares, options.number - 1, options.workers)
            if options.workers > 1
            else None
        )
        server = Server(
            app, settings, lambda: _tell(event="listening"), launched=True, shares=shares
        )
    except PipelineError as error:
        listener.close()
        _tell(event="refused", message=str(error))
        return EXIT_REFUSED
    server.run_on(listener, until_eof=True)
    # No signal ended it: the launcher is gone, and with it who would clean up.
    if folder := os.environ.get(FOLDER_VARIABLE):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _tell(**fields: str) -> None:
    try:
        os.write(1, (json.dumps(fields) + "\n").encode())
    except BrokenPipeError:
        # The launcher is gone; standard input says so too.
        return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bc_pipeline.serving.process.worker")
    parser.add_argument("--socket", type=int, required=True, help="descriptor to listen on")
    parser.add_argument("--number", type=int, required=True, help="which of the workers, from 1")
    parser.add_argument("--workers", type=int, required=True, help="how many there are")
    parser.add_argument("--shares", type=int, required=True, help="descriptor of their counts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
