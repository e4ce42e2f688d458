#!/usr/bin/env bash
# One database and one user for each of Airflow, MLflow and the prediction log. The official
# image runs this once, before a new cluster of databases listens to anybody.
set -euo pipefail

for secret in airflow_db_url mlflow_db_url records_url; do
  url=$(<"/run/secrets/$secret")
  if ! [[ $url =~ ^[a-z0-9+]+://([a-z_]+):([A-Za-z0-9_-]+)@[^/]+/([a-z_]+)$ ]]; then
    echo "The secret $secret is not scheme://user:password@host/database." >&2
    exit 1
  fi
  user=${BASH_REMATCH[1]} password=${BASH_REMATCH[2]} database=${BASH_REMATCH[3]}
  # By standard input: arguments can be seen by every process.
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres <<EOF
CREATE ROLE "$user" LOGIN PASSWORD '$password';
CREATE DATABASE "$database" OWNER "$user";
REVOKE ALL ON DATABASE "$database" FROM PUBLIC;
EOF
done
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres \
  --command 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC'
