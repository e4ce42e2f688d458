#!/bin/sh
# Run a command of MLflow with the database that a file names.
#
# The URL holds a password. It comes as a file and goes on in the environment; as an argument
# it would show in every list of processes.
set -eu
if [ -n "${MLFLOW_BACKEND_STORE_URI_FILE:-}" ]; then
  MLFLOW_BACKEND_STORE_URI=$(cat "$MLFLOW_BACKEND_STORE_URI_FILE")
  export MLFLOW_BACKEND_STORE_URI
fi
exec "$@"
