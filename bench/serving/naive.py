"""The service that most people would write: pydantic, a DataFrame, joblib, ``predict_proba``.

It checks that all numbers are there, and nothing else: no key, no range, no record, no limit.
The endpoint is a coroutine, which is the cheaper way: no thread for each request.
"""

from __future__ import annotations

import os
from typing import Any

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model

from bc_pipeline.problems import get_problem

problem = get_problem("wdbc")
names = list(problem.schema.names)
model = joblib.load(os.environ["MODEL"])
version = os.environ["VERSION"]
fields: dict[str, Any] = dict.fromkeys(names, (float, ...))
Record = create_model("Record", **fields)


class Answer(BaseModel):
    prediction: int
    label: str
    probability: float
    model_version: str


app = FastAPI()


@app.post("/predict")
async def predict(record: Record) -> Answer:
    frame = pd.DataFrame([record.model_dump()], columns=names)
    probability = float(model.predict_proba(frame)[0, 1])
    called = probability > 0.5
    label = problem.labels.positive if called else problem.labels.negative
    return Answer(
        prediction=label.code,
        label=label.name,
        probability=probability if called else 1 - probability,
        model_version=version,
    )


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]))
