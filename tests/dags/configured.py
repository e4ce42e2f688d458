"""Tell what Airflow makes of its variables: which options there are, and what it reads where.

The first argument names a connection to look up; the answer goes to the file that the last one
names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow.configuration import conf
from airflow.sdk import Connection
from airflow.utils.providers_configuration_loader import providers_configuration_loaded


@providers_configuration_loaded
def main(connection: str, answer: str) -> None:
    description = conf.configuration_description
    found = Connection.get(connection)
    reported = {
        "options": [
            f"{section}__{option}".upper()
            for section, content in description.items()
            for option in content["options"]
        ],
        # Only these may be read by a command or from a backend.
        "sensitive": [f"{s}__{o}".upper() for s, o in conf.sensitive_config_values],
        "connection": {
            "conn_type": found.conn_type,
            "host": found.host,
            "login": found.login,
            "password": found.password,
        },
        "fernet_key": conf.get("core", "fernet_key"),
    }
    Path(answer).write_text(json.dumps(reported))


if __name__ == "__main__":
    main(*sys.argv[1:])
