"""The addresses of the service, by what they are for."""

from bc_pipeline.serving.routes import (
    about,
    batches,
    health,
    inference,
    invocations,
    metrics,
    model,
    outcomes,
    predictions,
    retrain,
)

ROUTERS = (
    predictions.router,
    batches.router,
    outcomes.router,
    retrain.router,
    model.router,
    health.router,
    metrics.router,
    about.router,
    inference.router,
    invocations.router,
)
