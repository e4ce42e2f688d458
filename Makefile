# Every command a person needs. `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3.11
BIN := .venv/bin
# Byte code is compiled once, at installation; Airflow starts several times faster with it.
unexport PYTHONDONTWRITEBYTECODE
# uv does not read pip's settings: hand on an index that is set for pip.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

SOURCES := bc_pipeline dags docker plugins tests bench
LOCK := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installer: requirements/install.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 is needed, and $(PYTHON) is not it. Install it, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/runtime: .venv/installer requirements/runtime.txt pyproject.toml
	@echo "Installing the locked environment (the first time takes a minute or two)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --requirement requirements/runtime.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/runtime requirements/dev.txt
	@echo "Installing the development tools"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --requirement requirements/dev.txt
	@touch $@

# Spark's driver and executors have an environment of their own; see docs/operations.md.
.venv/spark/ready: .venv/installer requirements/install.txt requirements/spark.txt pyproject.toml
	@echo "Installing Spark's environment (the first time takes a minute or two)"
	@$(PYTHON) -m venv .venv/spark
	@$(BIN)/uv pip install --quiet --python .venv/spark/bin/python --compile-bytecode --require-hashes --requirement requirements/install.txt --requirement requirements/spark.txt
	@$(BIN)/uv pip install --quiet --python .venv/spark/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: up
up: .venv/runtime ## Set up, start the stack, run the first retrain, predict and score
	@$(BIN)/bc-pipeline up

.PHONY: down
down: .venv/runtime ## Stop the stack; everything on the volume stays
	@$(BIN)/bc-pipeline down

.PHONY: status
status: .venv/runtime ## Show processes, URLs and the champion
	@$(BIN)/bc-pipeline status

.PHONY: logs
logs: .venv/runtime ## Follow the stack's logs (Ctrl-C ends it)
	@$(BIN)/bc-pipeline logs --follow

.PHONY: doctor
doctor: .venv/runtime ## Check this machine and the volume, with remedies
	@$(BIN)/bc-pipeline doctor

.PHONY: secrets
secrets: .venv/runtime ## Make the secrets of a deployment in containers, where missing
	@$(BIN)/bc-pipeline compose secrets

.PHONY: compose-up
compose-up: .venv/runtime ## Start the containers, wait for health, run the first cycle (PROFILES="...")
	@$(BIN)/bc-pipeline compose up $(PROFILES:%=--profile %)

.PHONY: compose-down
compose-down: .venv/runtime ## Stop the containers; the volumes stay
	@$(BIN)/bc-pipeline compose down

PYTEST := $(BIN)/python -m pytest --durations 10
# Every module of unit, contract and DAG tests stays in one of two processes.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile
# Spark runs on Java: where there is none, its tests are skipped.
SPARK := $(if $(shell command -v java),.venv/spark/ready)

# End-to-end tests mostly wait for processes: those of the embedded stack run beside the others.
.PHONY: test test-stack test-services
test: .venv/dev ## Run every test but the slow ones, the real processes too
	@$(PYTEST) $(SIDE_BY_SIDE) -m "not slow" tests/unit tests/contract tests/dags
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-stack test-services
test-stack:
	@$(PYTEST) -m "not slow" tests/e2e/test_workflow.py
test-services:
	@$(PYTEST) -m "not slow" tests/e2e --ignore=tests/e2e/test_workflow.py

.PHONY: test-unit
test-unit: .venv/dev ## Run the unit tests alone, without a database server
	@$(PYTEST) --numprocesses 3 --dist worksteal --hypothesis-profile quick -m "not (slow or postgresql or integration)" tests/unit

.PHONY: test-slow test-tables test-deployments
test-slow: .venv/dev $(SPARK) ## Run what takes long by its nature: deployments, simulations, corruption tables
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-tables test-deployments
test-tables:
	@$(PYTEST) -m slow tests/unit tests/contract
test-deployments:
	@$(PYTEST) -m slow tests/e2e

.PHONY: coverage
coverage: .venv/dev ## Measure which lines unit, contract and DAG tests run (build/coverage/index.html)
	@$(PYTEST) $(SIDE_BY_SIDE) -m "not slow" --cov --cov-report term:skip-covered --cov-report html tests/unit tests/contract tests/dags

# Run by hand, as it takes an hour: a part of it with ONLY="bc_pipeline.promotion.gate*".
.PHONY: mutants
mutants: .venv/dev ## Change the code of releases, split and model loading in small ways: tests must fail
	@nice -n 10 $(BIN)/mutmut run $(foreach name,$(ONLY),'$(name)')
	@$(BIN)/python tests/mutation_score.py

.PHONY: fuzz
fuzz: .venv/dev ## Ask every operation of the service hundreds of new things (about 5 min)
	@FUZZ_EXAMPLES=500 $(BIN)/python -m pytest --timeout 900 tests/contract/test_fuzz.py

.PHONY: check
check: .venv/dev ## Check format, lint, types, import rules, length of functions, dependencies, docs and locks
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry bc_pipeline
	@$(BIN)/python bench/code_size.py --check
	@$(BIN)/python -m pytest --quiet tests/contract/test_docs.py
	@for name in install runtime serving cluster spark mlflow dev; do \
	  cp requirements/$$name.txt .venv/$$name.lock; \
	  $(MAKE) --no-print-directory lock-$$name OUT=.venv/$$name.lock && diff -q requirements/$$name.txt .venv/$$name.lock >/dev/null \
	    || { echo "requirements/$$name.txt does not fit pyproject.toml: run 'make lock'." >&2; exit 1; }; \
	done
	@echo "All checks passed."

# BASE, TAG and ENGINE may be given; IMAGES chooses some, and BUILD_ARGS go to the engine.
.PHONY: images
images: ## Build the images with docker or podman, and report their sizes
	@$(PYTHON) docker/build.py $(IMAGES) $(if $(BASE),--base $(BASE)) $(if $(TAG),--tag $(TAG)) \
	  $(if $(ENGINE),--engine $(ENGINE)) $(foreach word,$(BUILD_ARGS),--argument=$(word))

.PHONY: sbom
sbom: .venv/dev ## Write what each image is made of to build/sbom, as CycloneDX
	@mkdir -p build/sbom
	@for name in $(or $(IMAGES),$(basename $(notdir $(wildcard docker/*.Dockerfile)))); do \
	  file=docker/$$name.Dockerfile; lock=$$(sed -n 's/.*install\.sh \(.*\.txt\)$$/\1/p' $$file); \
	  root=; if grep -q package.sh $$file; then root="--pyproject pyproject.toml --mc-type application"; fi; \
	  PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements $$root --output-reproducible \
	    --output-file build/sbom/bc-pipeline-$$name.cdx.json requirements/$$lock || exit 1; \
	  echo "build/sbom/bc-pipeline-$$name.cdx.json"; \
	done

.PHONY: bench
bench: .venv/dev .venv/spark/ready ## Run the benchmarks: ratios, side by side
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

.PHONY: fmt
fmt: .venv/dev ## Format the code and mend what the linter can
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

.PHONY: lock lock-install lock-cluster lock-runtime lock-serving lock-spark lock-mlflow lock-dev
lock: .venv/installer lock-install lock-cluster lock-runtime lock-serving lock-spark lock-mlflow lock-dev ## Resolve the dependencies anew into requirements/
OUT = requirements/$(@:lock-%=%).txt
RUNTIME := --extra serving --extra tracing --extra pipeline --extra airflow
lock-install:
	@$(LOCK) --group install --output-file $(OUT)
# Airflow with Celery workers and PostgreSQL; everything else has the same versions.
lock-cluster:
	@$(LOCK) $(RUNTIME) --extra cluster pyproject.toml --output-file $(OUT)
lock-runtime:
	@$(LOCK) $(RUNTIME) pyproject.toml --constraint requirements/cluster.txt --output-file $(OUT)
# What the prediction service alone needs, on a machine or in an image of its own.
lock-serving:
	@$(LOCK) --extra serving --extra tracing pyproject.toml --constraint requirements/runtime.txt --output-file $(OUT)
# Spark's driver and executors.
lock-spark:
	@$(LOCK) --extra spark pyproject.toml --constraint requirements/runtime.txt --output-file $(OUT)
# The server of MLflow, without Airflow and without the package.
lock-mlflow:
	@$(LOCK) --group mlflow --constraint requirements/cluster.txt --output-file $(OUT)
lock-dev:
	@$(LOCK) $(RUNTIME) --extra cluster --group dev pyproject.toml --constraint requirements/cluster.txt --output-file $(OUT)
