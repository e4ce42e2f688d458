"""``python -m bc_pipeline.server``: run the service.

Standard output gets one line, once every worker accepts requests::

    {"event": "listening", "host": "127.0.0.1", "port": 8000, "pid": 4711}

Logs go to standard error. After SIGTERM or SIGINT, requests in progress finish; the exit code is 0.
"""

from __future__ import annotations

import argparse
import socket
import sys
from functools import partial
from pathlib import Path

from bc_pipeline.errors import PipelineError
from bc_pipeline.server.launcher import EXIT_REFUSED, Launcher
from bc_pipeline.server.listener import announce, bind
from bc_pipeline.settings import Settings, load_settings

# Named, not imported: the server knows its application by the interface alone.
_APPLICATION = "bc_pipeline.serving.app:create_worker_app"


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
                _serve_folder(settings, listener, options)
                return 0
            launcher = Launcher(
                settings,
                listener,
                settings.workers,
                application=options.application,
                until_eof=options.until_eof,
            )
            return launcher.run()
    except PipelineError as error:
        sys.stderr.write(f"bc_pipeline.server: {error}\n")
        return EXIT_REFUSED


def _serve_folder(settings: Settings, listener: socket.socket, options: argparse.Namespace) -> None:
    """Serve one version in this process, without a prediction log."""
    # Imported here: the launcher does not need them.
    from bc_pipeline.server.application import load_factory
    from bc_pipeline.server.logs import configure_logs
    from bc_pipeline.server.server import Server

    configure_logs(settings.log_level)
    create_app = load_factory(options.application)
    app = create_app(settings, worker="worker", folder=options.folder)
    Server(app, settings, partial(announce, listener)).run_on(listener, until_eof=options.until_eof)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bc_pipeline.server",
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
        help="stop when standard input ends, so as not to outlive the parent process",
    )
    parser.add_argument(
        "--application",
        default=_APPLICATION,
        help="factory of the application to serve, as module:function; default: %(default)s",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
