#!/usr/bin/env bash
# One database and one user for each of Airflow, MLflow and the prediction log, each with the
# password that its secret says now. It runs at each start, so that one that was cut short is
# made good by the next. Which server it asks, libpq's own variables say: PGHOST, PGUSER.
set -euo pipefail

# A file for libpq, as the environment of a process is easier to see.
export PGPASSFILE
PGPASSFILE=$(mktemp)
trap 'rm -f "$PGPASSFILE"' EXIT
printf '*:*:*:*:%s\n' "$(</run/secrets/postgres_password)" >"$PGPASSFILE"
run=(psql --no-psqlrc --no-password --quiet --set ON_ERROR_STOP=1 --dbname postgres)

tries=60
until pg_isready --quiet; do
  if ((--tries == 0)); then
    echo "PostgreSQL does not answer; see its own log." >&2
    exit 1
  fi
  sleep 2
done

for secret in airflow_db_url mlflow_db_url records_url; do
  url=$(<"/run/secrets/$secret")
  if ! [[ $url =~ ^[a-z0-9+]+://([a-z_]+):([A-Za-z0-9_-]+)@[^/]+/([a-z_]+)$ ]]; then
    echo "The secret $secret is not scheme://user:password@host/database." >&2
    exit 1
  fi
  user=${BASH_REMATCH[1]} password=${BASH_REMATCH[2]} database=${BASH_REMATCH[3]}
  # By standard input: arguments can be seen by every process. The server is not to log the
  # password with a statement that fails.
  "${run[@]}" <<SQL
SET log_statement = none;
SET log_min_error_statement = panic;
SELECT 'CREATE ROLE "$user"' WHERE NOT EXISTS (
  SELECT FROM pg_roles WHERE rolname = '$user') \gexec
ALTER ROLE "$user" LOGIN PASSWORD '$password';
SELECT 'CREATE DATABASE "$database" OWNER "$user"' WHERE NOT EXISTS (
  SELECT FROM pg_database WHERE datname = '$database') \gexec
REVOKE ALL ON DATABASE "$database" FROM PUBLIC;
SQL
done
"${run[@]}" --command 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC'
