"""The modules that a process has loaded after it answered a prediction."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE

pytestmark = pytest.mark.integration

TRAINING_LIBRARIES = {
    "airflow",
    "great_expectations",
    "joblib",
    "matplotlib",
    "mlflow",
    "onnx",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
}
PROGRAM = """
import asyncio, json, sys
import httpx
from bc_pipeline.serving import app as entry
from bc_pipeline.settings import load_settings

async def main():
    app = entry.create_app(load_settings())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            headers = {"X-API-Key": sys.argv[1]}
            body = {"features": json.loads(sys.argv[2])}
            answer = await client.post("/predict", headers=headers, json=body)
            await client.get("/docs")
            print(json.dumps([answer.json(), sorted(sys.modules)]))

asyncio.run(main())
"""


def test_a_service_loads_no_training_library(
    releases: Any, fitted: Any, settings: Settings, api_key: str, reference: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    row = json.dumps(reference[0][0].tolist())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, api_key, row],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    answer, modules = json.loads(done.stdout.splitlines()[-1])
    assert answer["model_version"] == "v1"
    assert "onnxruntime" in modules
    assert {name.partition(".")[0] for name in modules} & TRAINING_LIBRARIES == set()
