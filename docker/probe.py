"""Ask an address of this container whether its server is well: the health check of the images.

``python -I /opt/probe.py URL`` ends with 0 where the answer is 200, and with 1 otherwise. It
needs nothing but the standard library, so that no image carries a program that fetches things.
"""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request

SECONDS = 4.0


def main(url: str) -> int:
    # The certificate names the service as its callers know it, which loopback is not.
    trusting = ssl._create_unverified_context()
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    try:
        with direct.open(url, timeout=SECONDS) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError as error:
        print(f"{url}: {error}")
        return 1
    print(f"{url}: {status}")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
