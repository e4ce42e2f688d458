"""The addresses of the service, by what they are for."""

from bc_pipeline.serving.routes import about, health, predictions

ROUTERS = (predictions.router, health.router, about.router)
