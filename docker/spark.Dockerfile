# Spark's master, workers and driver for batch scoring: Spark, the package, and Java.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
COPY docker/install.sh requirements/install.txt requirements/spark.txt /build/
RUN --mount=type=secret,id=registry --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache \
    sh /build/install.sh spark.txt

FROM dependencies AS package
COPY docker/package.sh /build/
COPY pyproject.toml README.md LICENSE /build/source/
COPY bc_pipeline /build/source/bc_pipeline
WORKDIR /build/source
RUN sh /build/package.sh
COPY expectations /opt/bc_pipeline/expectations
# A checkout may have been made so that only its owner may read it.
RUN chmod -R u=rwX,go=rX /opt/bc_pipeline

FROM ${BASE}
# Slim images lack the folder of manuals, and Java's package wants to link into it. Debian
# keeps one version of Java 17, so that a pin would break the build with the next security fix.
# hadolint ignore=DL3008
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    # Hadoop asks for the name of the user, and stops where there is none.
    && useradd --uid 50000 --gid 0 --no-create-home --home-dir /tmp \
         --shell /usr/sbin/nologin spark \
    && install -d -o 50000 -g 0 -m 2775 /var/lib/bc_pipeline
COPY docker/probe.py /opt/probe.py
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/package /opt/venv
COPY --from=package /opt/bc_pipeline /opt/bc_pipeline

# The start scripts of a Spark download are not in its Python package: `spark-class` with the
# class of a master or a worker starts one in the foreground.
ENV SPARK_HOME=/opt/venv/lib/python3.11/site-packages/pyspark
ENV PATH=/opt/venv/bin:${SPARK_HOME}/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    PYSPARK_PYTHON=/opt/venv/bin/python \
    SPARK_LOCAL_DIRS=/tmp/spark \
    SPARK_WORKER_DIR=/tmp/spark-work \
    BC_HOME=/var/lib/bc_pipeline \
    BC_PROJECT_DIR=/opt/bc_pipeline
USER 50000:0
WORKDIR /tmp
EXPOSE 7077 8080 8081
CMD ["spark-class", "org.apache.spark.deploy.master.Master"]

ARG BASE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bc-pipeline-spark" \
      org.opencontainers.image.description="Spark with the batch scoring of bc-pipeline" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
