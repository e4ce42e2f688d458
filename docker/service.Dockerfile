# The prediction service: what its lock names, and the package. No training stack, no Airflow.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
COPY docker/install.sh requirements/install.txt requirements/serving.txt /build/
RUN --mount=type=secret,id=registry --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache \
    sh /build/install.sh serving.txt

FROM dependencies AS package
COPY docker/package.sh /build/
COPY pyproject.toml README.md LICENSE /build/source/
COPY bc_pipeline /build/source/bc_pipeline
WORKDIR /build/source
RUN sh /build/package.sh

FROM ${BASE}
# The models belong to Airflow's side, which writes them; only the records are the service's.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bc \
    && install -d -o 50000 -g 0 -m 2775 /var/lib/bc_pipeline \
    && install -d -o 10001 -g 0 -m 2770 /var/lib/bc_pipeline/records
COPY docker/probe.py /opt/probe.py
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/package /opt/venv

# Byte code was compiled at installation, and the root may be read-only.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    BC_HOME=/var/lib/bc_pipeline \
    BC_SERVICE_PORT=8000
USER 10001:0
WORKDIR /var/lib/bc_pipeline
EXPOSE 8000
# Alive, not ready: before the first promotion there is no model, and a restart brings none.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["sh", "-c", "exec python -I /opt/probe.py http${BC_TLS_CERT_FILE:+s}://127.0.0.1:$BC_SERVICE_PORT/livez"]
# Workers get ten seconds for what is under way, and the drainer ten more.
STOPSIGNAL SIGTERM
CMD ["python", "-m", "bc_pipeline.server", "--host", "0.0.0.0"]

ARG BASE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bc-pipeline-service" \
      org.opencontainers.image.description="Prediction service for breast cancer classification: decision support for research" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
