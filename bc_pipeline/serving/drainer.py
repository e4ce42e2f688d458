"""``python -m bc_pipeline.serving.drainer``: the launcher's drainer of the prediction log.

Standard input is a pipe whose end means that the launcher is gone: then it drains what is
there and ends, as on SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from bc_pipeline.records.__main__ import main


def _end_with_input() -> None:
    # The descriptor, not sys.stdin: its buffer's lock would be held at interpreter shutdown.
    while os.read(0, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.exit(main([]))
