# MLflow's server: the runs and models that the workflow mirrors to it.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
COPY docker/install.sh requirements/install.txt requirements/mlflow.txt /build/
RUN --mount=type=secret,id=registry --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache \
    sh /build/install.sh mlflow.txt

FROM ${BASE}
RUN useradd --uid 50000 --gid 0 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mlflow \
    && install -d -o 50000 -g 0 -m 2775 /var/lib/mlflow
COPY docker/probe.py /opt/probe.py
COPY docker/mlflow-server.sh /opt/mlflow-server.sh
COPY --from=dependencies /opt/venv /opt/venv

# Without a database that the deployment names (MLFLOW_BACKEND_STORE_URI, or better
# MLFLOW_BACKEND_STORE_URI_FILE), runs are kept in a file beside the artifacts. Which Host
# headers are answered is up to MLFLOW_SERVER_ALLOWED_HOSTS.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    MLFLOW_BACKEND_STORE_URI=sqlite:////var/lib/mlflow/mlflow.db \
    MLFLOW_ARTIFACTS_DESTINATION=/var/lib/mlflow/artifacts \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_HOST=0.0.0.0 \
    MLFLOW_PORT=5000 \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_WORKERS=1
USER 50000:0
WORKDIR /var/lib/mlflow
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "exec python -I /opt/probe.py http://127.0.0.1:$MLFLOW_PORT/health"]
ENTRYPOINT ["sh", "/opt/mlflow-server.sh"]
CMD ["mlflow", "server"]

ARG BASE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bc-pipeline-mlflow" \
      org.opencontainers.image.description="MLflow's server for the runs and models of bc-pipeline" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
