"""The routes of the service, one module for each purpose."""

from bc_pipeline.serving.routes import (
    about,
    batches,
    health,
    inference,
    invocations,
    lookup,
    metrics,
    model,
    outcomes,
    predictions,
    retrain,
)

# The OpenAPI document lists them in this order.
_MODULES = (
    *(predictions, batches, lookup, outcomes, retrain),
    *(model, health, metrics, about, inference, invocations),
)
ROUTERS = tuple(module.router for module in _MODULES)
