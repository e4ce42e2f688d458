# Airflow with Celery and PostgreSQL, the package, and the DAGs: each of Airflow's components
# and `bc-pipeline` run from this image, by the command that is given.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
COPY docker/install.sh requirements/install.txt requirements/cluster.txt /build/
RUN --mount=type=secret,id=registry --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache \
    sh /build/install.sh cluster.txt

FROM dependencies AS package
COPY docker/package.sh /build/
COPY pyproject.toml README.md LICENSE /build/source/
COPY bc_pipeline /build/source/bc_pipeline
WORKDIR /build/source
RUN sh /build/package.sh
COPY dags /opt/bc_pipeline/dags
COPY plugins /opt/bc_pipeline/plugins
COPY expectations /opt/bc_pipeline/expectations
# A checkout may have been made so that only its owner may read it.
RUN chmod -R u=rwX,go=rX /opt/bc_pipeline

FROM ${BASE}
# git and ssh fetch DAGs where they come from a repository; dumb-init hands signals on and
# collects what Airflow's processes leave behind. Debian keeps one version of each, so that a
# pin would break the build with the next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends dumb-init git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --gid 0 --no-create-home --home-dir /opt/airflow \
         --shell /usr/sbin/nologin airflow \
    && install -d -o 50000 -g 0 -m 2775 /opt/airflow /opt/airflow/logs /var/lib/bc_pipeline \
    && install -d -o 10001 -g 0 -m 2770 /var/lib/bc_pipeline/records \
    # Where there is none, Airflow writes one, with keys that each container would make anew.
    && install -o 50000 -g 0 -m 0644 /dev/null /opt/airflow/airflow.cfg
COPY docker/probe.py /opt/probe.py
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/package /opt/venv
COPY --from=package /opt/bc_pipeline /opt/bc_pipeline

# Byte code was compiled at installation, and the root may be read-only. The keys of Airflow,
# its database and its broker come from the deployment; nothing here stands in for them.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    GX_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    BC_HOME=/var/lib/bc_pipeline \
    BC_PROJECT_DIR=/opt/bc_pipeline \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/bc_pipeline/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/bc_pipeline/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=/opt/airflow/logs \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
# Workers load the heavy libraries before tasks fork from them.
RUN ["python", "-c", "from pathlib import Path; from bc_pipeline.stack import preload; preload.install(Path('/opt/airflow'))"]
USER 50000:0
WORKDIR /opt/airflow
EXPOSE 8080
ENTRYPOINT ["dumb-init", "--"]
CMD ["airflow", "version"]

ARG BASE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bc-pipeline-airflow" \
      org.opencontainers.image.description="Airflow with the training, promotion and batch scoring of bc-pipeline" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
