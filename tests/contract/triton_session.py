"""A program that uses a service as Triton's own client does, and prints what it got.

It runs by itself, because the client brings its own event loop.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

OUTPUTS = ("probability", "label", "prediction", "prediction_id")


def as_input(values: np.ndarray, datatype: str, *, binary: bool) -> InferInput:
    made = InferInput("features", list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def columns(result: Any, names: tuple[str, ...] = OUTPUTS) -> dict[str, list[Any]]:
    return {
        name: [
            cell.decode() if isinstance(cell, bytes) else cell
            for cell in result.as_numpy(name).tolist()
        ]
        for name in names
    }


def refusal(client: InferenceServerClient, *arguments: Any, **named: Any) -> list[str]:
    try:
        client.infer(*arguments, **named)
    except InferenceServerException as error:
        return [error.status(), error.message()]
    raise AssertionError("the request was answered")


def session(address: str, key: str, values: np.ndarray) -> dict[str, Any]:
    headers = {"X-API-Key": key}
    binary = as_input(values, "FP64", binary=True)
    plain = as_input(values, "FP64", binary=False)
    single = as_input(values.astype(np.float32), "FP32", binary=True)
    wrong = values[:3].copy()
    wrong[1, 0] = -1.0
    with InferenceServerClient(address) as client:
        found: dict[str, Any] = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("wdbc"),
            "version_ready": client.is_model_ready("wdbc", "v1"),
            "other_ready": client.is_model_ready("other"),
            "old_ready": client.is_model_ready("wdbc", "v0"),
            "server": client.get_server_metadata(headers=headers),
            "model": client.get_model_metadata("wdbc", headers=headers),
        }
        both = client.infer("wdbc", [binary], request_id="r-1", headers=dict(headers))
        found["id"] = both.get_response()["id"]
        found["binary"] = columns(both)
        found["plain"] = columns(
            client.infer(
                "wdbc",
                [plain],
                model_version="v1",
                outputs=[InferRequestedOutput(name, binary_data=False) for name in OUTPUTS],
                headers=dict(headers),
                parameters={"note": "any"},
                priority=1,
                timeout=1000,
            )
        )
        found["mixed"] = columns(
            client.infer(
                "wdbc",
                [single],
                outputs=[
                    InferRequestedOutput("label", binary_data=False),
                    InferRequestedOutput("probability"),
                ],
                headers=dict(headers),
            ),
            ("probability", "label"),
        )
        found["later"] = columns(
            client.async_infer("wdbc", [binary], headers=dict(headers)).get_result()
        )
        found["no_key"] = refusal(client, "wdbc", [binary])
        found["old"] = refusal(client, "wdbc", [binary], model_version="v0", headers=dict(headers))
        found["wrong"] = refusal(
            client, "wdbc", [as_input(wrong, "FP64", binary=True)], headers=dict(headers)
        )
        found["compressed"] = refusal(
            client,
            "wdbc",
            [binary],
            headers=dict(headers),
            request_compression_algorithm="gzip",
        )
    return found


if __name__ == "__main__":
    address, key, path = sys.argv[1:]
    sys.stdout.write(json.dumps(session(address, key, np.load(path))))
