"""Latency of clients that behave, alone and beside two hundred that send or read slowly.

python bench/slow_clients.py
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bc_pipeline.settings import Settings
from tests.e2e.service_process import Load, quantile, running_service
from tests.e2e.slow_clients import SLOW, SlowClients
from tests.e2e.volume import make_releases

LONGEST_SECONDS = 30.0
PAUSE = 0.01


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        _, rows = make_releases(home, 1)
        with running_service(Settings(home=home), home) as service:
            with Load(service, rows, pause=PAUSE) as alone:
                time.sleep(LONGEST_SECONDS / 2)
            clients = SlowClients(service)
            with Load(service, rows, pause=PAUSE) as beside:
                clients.drip_until_closed(LONGEST_SECONDS)
            clients.close()
    assert not alone.failures + beside.failures
    result = {
        "alone_p95_ms": round(1000 * quantile(alone.answers, 0.95), 2),
        "beside_p95_ms": round(1000 * quantile(beside.answers, 0.95), 2),
        "p95_ratio": round(quantile(beside.answers, 0.95) / quantile(alone.answers, 0.95), 2),
        "slow": SLOW,
        "closed": len(clients.closed),
        "last_closed_s": round(max(seconds for _, seconds in clients.closed), 1),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
