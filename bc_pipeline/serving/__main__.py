"""``python -m bc_pipeline.serving``: run the service.

Standard output gets one line, once every worker accepts requests::

    {"event": "listening", "host": "127.0.0.1", "port": 8000, "pid": 4711}

Logs go to standard error. SIGTERM and SIGINT let requests under way finish and end with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from pathlib import Path

from bc_pipeline.artifacts.store_format import require_store
from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.process.launcher import EXIT_REFUSED, Launcher
from bc_pipeline.serving.process.listener import bind
from bc_pipeline.settings import Settings, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal; the exit code is 0, or 2 where the service cannot start."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(
            **({} if options.workers is None else {"workers": options.workers})
        )
        port = settings.service_port if options.port is None else options.port
        listener = bind(options.host or settings.host, port)
        with listener:
            if options.folder:
                _serve_folder(options.folder, settings, listener, until_eof=options.until_eof)
                return 0
            require_store(settings.home)
            launcher = Launcher(settings, listener, settings.workers, until_eof=options.until_eof)
            return launcher.run()
    except PipelineError as error:
        sys.stderr.write(f"bc_pipeline.serving: {error}\n")
        return EXIT_REFUSED


def _serve_folder(
    folder: Path, settings: Settings, listener: socket.socket, *, until_eof: bool
) -> None:
    """Serve one version in this very process, without a prediction log."""
    # The launcher must not load what answers requests.
    from bc_pipeline.serving.app import create_app
    from bc_pipeline.serving.model.folder import load_folder
    from bc_pipeline.serving.process.logs import configure_logs
    from bc_pipeline.serving.process.server import Server

    configure_logs(settings.log_level)
    host, port = listener.getsockname()[:2]

    def announce() -> None:
        line = {"event": "listening", "host": host, "port": port, "pid": os.getpid()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    app = create_app(settings, load_folder(folder, settings))
    Server(app, settings, announce).run_on(listener, until_eof=until_eof)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bc_pipeline.serving",
        description="Serve predictions. Settings come from BC_* in the environment.",
    )
    parser.add_argument("--host", help="address to bind; default: BC_HOST")
    parser.add_argument(
        "--port", type=int, help="port to bind, 0 for a free one; default: BC_SERVICE_PORT"
    )
    parser.add_argument(
        "--workers", type=int, help="processes that answer requests; default: BC_WORKERS"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="serve the signed version in this folder, whatever the registry says",
    )
    parser.add_argument(
        "--until-eof",
        action="store_true",
        help="stop when standard input ends, so as not to outlive the process that started it",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
