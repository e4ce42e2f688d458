"""The embedded stack that `make up` runs: Airflow, MLflow and the service on loopback."""
